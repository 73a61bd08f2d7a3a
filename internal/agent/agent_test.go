// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/waymark-net/waymark/internal/cniserver"
	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/ipam"
)

// brokenLinks cannot list links as long as there is an error.
type brokenLinks struct {
	cniserver.Links
	err error
}

func (b *brokenLinks) List(context.Context) ([]string, error) { return nil, b.err }

// TestFailedRepairOfPodsIsReported: an error of one Pod neither keeps the node
// from serving nor gets lost behind what is done after it.
func TestFailedRepairOfPodsIsReported(t *testing.T) {
	dir := t.TempDir()
	links := &brokenLinks{err: errors.New("broken")}
	a := &Agent{p: Params{RunDir: dir, CNIConfig: filepath.Join(dir, "net.d", "waymark.conflist")}, health: newHealth()}
	a.loop, a.podLoop = reconcile.New(reconcile.Params{}), reconcile.New(reconcile.Params{})
	a.pods, _, _ = newSwitches(t)
	a.settings.known = true
	var err error
	a.cni, err = cniserver.New(cniserver.Params{
		StateDir:  filepath.Join(dir, "attachments"),
		Settings:  func() (cniserver.Settings, error) { return cniserver.Settings{}, nil },
		Switch:    a.pods,
		Links:     links,
		Addresses: ipam.New(ipam.Params{Dir: filepath.Join(dir, "ipam")}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.reconcilePods(t.Context()); !errors.Is(err, links.err) {
		t.Errorf("reconcilePods = %v, want %v, so that it is tried again", err, links.err)
	}
	if p := a.podsDegraded.Load(); p == nil || !errors.Is(*p, links.err) {
		t.Errorf("the node reports %v, want %v", p, links.err)
	}
	if _, err := os.Stat(a.p.CNIConfig); err != nil {
		t.Error("the other Pods are refused:", err)
	}
	if err := a.health.err(); err != nil {
		t.Error("the node is not ready:", err)
	}
	links.err = nil
	if err := a.reconcilePods(t.Context()); err != nil {
		t.Error(err)
	}
	if p := a.podsDegraded.Load(); *p != nil {
		t.Errorf("the node still reports %v", *p)
	}
}
