// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waymark-net/waymark/internal/enforce"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy/stream"
)

// policies get what the node enforces from the controllers into the switch.
type policies struct {
	finder   *kube.ControllerFinder
	client   *stream.Client
	enforcer *enforce.Enforcer
	denied   *openflow.PacketQueue
	agent    *Agent
}

func (a *Agent) newPolicies(clients *kube.Clients) *policies {
	p := &policies{
		finder: kube.NewControllerFinder(clients), agent: a,
		denied: openflow.NewPacketQueue(openflow.PacketQueueParams{Tables: []uint8{pipeline.TableDenied}}),
	}
	p.enforcer = enforce.New(enforce.Params{
		Switch:  a.flows,
		Status:  func() stream.Status { return p.client.Status() },
		Pods:    kube.NewPodReader(clients),
		Dir:     a.p.StateDir,
		Changed: a.loop.Mark,
	})
	p.client = stream.NewClient(stream.ClientParams{
		Node:      a.p.NodeName,
		Endpoints: p.finder,
		Bundle:    p.finder.Bundle,
		Token: func() (string, error) {
			token, err := os.ReadFile(a.p.TokenFile)
			return strings.TrimSpace(string(token)), err
		},
		Consumer: p.enforcer,
		Disk:     stream.Disk{Path: filepath.Join(a.p.StateDir, "policy"), Node: a.p.NodeName},
		Now:      time.Now,
	})
	return p
}

func (p *policies) run(ctx context.Context) error {
	if err := os.MkdirAll(p.agent.p.StateDir, 0o755); err != nil {
		return fmt.Errorf("directory of the stored policy: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.finder.Run(ctx) })
	group.Go(func() error { return p.client.Run(ctx) })
	group.Go(func() error { return p.enforcer.Run(ctx, p.denied.Packets()) })
	return group.Wait()
}
