// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/matrix"
	probe "github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
)

// echoPort is where the probes echo over TCP and UDP.
const echoPort = 7000

// endpoints are the ends of the matrix by name: nodes and the client by their
// own, Pods as a@NODE and b@NODE.
func endpoints(t *testing.T, lab *cluster.Lab) map[string]matrix.Endpoint {
	t.Helper()
	byName, err := endpointsByName(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	return byName
}

func endpointsByName(ctx context.Context, lab *cluster.Lab) (map[string]matrix.Endpoint, error) {
	list, err := workload.Endpoints(ctx, lab)
	if err != nil {
		return nil, err
	}
	byName := map[string]matrix.Endpoint{}
	for _, e := range list {
		byName[e.Name] = e
	}
	return byName, nil
}

// ask is Endpoint.Ask for a test that cannot go on without results.
func ask(t *testing.T, from matrix.Endpoint, targets ...probe.Target) []probe.Result {
	t.Helper()
	results, err := from.Ask(t.Context(), targets...)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// quickMatrix is the matrix over TCP alone: every Pod and node to every Pod.
func quickMatrix(ctx context.Context, lab *cluster.Lab) error {
	ends, err := workload.Endpoints(ctx, lab)
	if err != nil {
		return err
	}
	result := matrix.Run(ctx, matrix.Params{Endpoints: ends, Protocols: []string{probe.TCP}, Millis: 1000})
	failures := result.Failures()
	if len(failures) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d exchanges failed, such as %s", len(failures), len(result.Exchanges), failures[0])
}

// checkQuickMatrix fails unless everything is reached within the time.
func checkQuickMatrix(t *testing.T, lab *cluster.Lab, limit time.Duration) {
	t.Helper()
	eventually(t, limit, func(ctx context.Context) error { return quickMatrix(ctx, lab) })
}

// familyName is IPv4 or IPv6.
func familyName(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// sameFamily returns the address of the endpoint in the family of a.
func sameFamily(e matrix.Endpoint, a netip.Addr) netip.Addr { return likeOf(e.Addresses, a) }

// likeOf returns the address of the same family as a.
func likeOf(addrs []netip.Addr, a netip.Addr) netip.Addr {
	for _, own := range addrs {
		if own.Is4() == a.Is4() {
			return own
		}
	}
	return netip.Addr{}
}

// nodeNames are the names of the lab's nodes.
func nodeNames(lab *cluster.Lab) []string {
	var names []string
	for _, h := range lab.Topology.WithRole(topology.RoleNode) {
		names = append(names, h.Name)
	}
	return names
}

// kubectlApply applies objects as a user does; the error holds what kubectl prints.
func kubectlApply(ctx context.Context, lab *cluster.Lab, objects string, args ...string) error {
	cp, err := lab.Host(topology.ControlPlane)
	if err != nil {
		return err
	}
	cmd := lab.KubectlCmd(append([]string{"apply", "-f", "-"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader([]byte(objects)), &stderr
	if err := cp.Run(ctx, cmd); err != nil {
		return errors.Join(err, errors.New(stderr.String()))
	}
	return nil
}

// kubectl runs kubectl and fails the test when it fails.
func kubectl(t *testing.T, lab *cluster.Lab, args ...string) string {
	t.Helper()
	out, err := lab.Kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// exec runs a command on a host and fails the test when it fails.
func exec(t *testing.T, lab *cluster.Lab, host string, argv ...string) string {
	t.Helper()
	out, err := lab.Exec(t.Context(), host, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
