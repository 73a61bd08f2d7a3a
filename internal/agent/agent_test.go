// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waymark-net/waymark/internal/cniserver"
	"github.com/waymark-net/waymark/internal/drift"
	"github.com/waymark-net/waymark/internal/reconcile"
	"github.com/waymark-net/waymark/ipam"
	"github.com/waymark-net/waymark/ovs/vsdb"
)

// brokenLinks cannot list links as long as there is an error.
type brokenLinks struct {
	cniserver.Links
	err error
}

func (b *brokenLinks) List(context.Context) ([]string, error) { return nil, b.err }

// podAgent returns an agent that can run reconcilePods and nothing else, with
// what it sees of the node, and a function that tells how often its node loop
// ran since the last call.
func podAgent(t *testing.T) (*Agent, *fakePorts, *brokenLinks, func() int) {
	t.Helper()
	dir := t.TempDir()
	links := &brokenLinks{}
	a := &Agent{p: Params{RunDir: dir, CNIConfig: filepath.Join(dir, "net.d", "waymark.conflist")}, drift: drift.New(func(drift.Repair) {}), health: newHealth(func() {}, "pods")}
	runs := 0
	a.loop = reconcile.New(reconcile.Params{
		Name: "node", Reconcile: func(context.Context) error { runs++; return nil }, MaxInterval: 24 * time.Hour,
	})
	a.podLoop = reconcile.New(reconcile.Params{})
	var ports *fakePorts
	a.pods, ports, _ = newSwitches(t)
	a.settings.known = true
	addresses := ipam.New(ipam.Params{Dir: filepath.Join(dir, "ipam")})
	t.Cleanup(func() {
		if err := addresses.Close(); err != nil {
			t.Error(err)
		}
	})
	var err error
	a.cni, err = cniserver.New(cniserver.Params{
		StateDir:  filepath.Join(dir, "attachments"),
		Settings:  func() (cniserver.Settings, error) { return cniserver.Settings{}, nil },
		Switch:    a.pods,
		Links:     links,
		Addresses: addresses,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.loop.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the node loop ended: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	ran := func() int {
		synctest.Wait()
		defer func() { runs = 0 }()
		return runs
	}
	ran() // the run at the start
	return a, ports, links, ran
}

// TestFailedRepairOfPodsIsReported: an error of one Pod neither keeps the node
// from serving nor gets lost behind what is done after it.
func TestFailedRepairOfPodsIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, links, ran := podAgent(t)
		links.err = errors.New("broken")
		if err := a.reconcilePods(t.Context()); !errors.Is(err, links.err) {
			t.Errorf("reconcilePods = %v, want %v, so that it is tried again", err, links.err)
		}
		if p := a.podsDegraded.Load(); !errors.Is(*p, links.err) {
			t.Errorf("the node reports %v, want %v", *p, links.err)
		}
		if _, err := os.Stat(a.p.CNIConfig); err != nil {
			t.Error("the other Pods are refused:", err)
		}
		if err := a.health.err(); err != nil {
			t.Error("the node is not ready:", err)
		}
		if ran() == 0 {
			t.Error("nothing is reported")
		}
		if err := a.reconcilePods(t.Context()); err == nil || ran() != 0 {
			t.Error("the same is reported again")
		}
		links.err = nil
		if err := a.reconcilePods(t.Context()); err != nil {
			t.Error(err)
		}
		if p := a.podsDegraded.Load(); *p != nil || ran() == 0 {
			t.Errorf("the node still reports %v", *p)
		}
	})
}

// TestSwitchThatComesBackIsReported: the node serves again as soon as Pods can
// be attached, and not only when the node loop has a reason of its own to run.
func TestSwitchThatComesBackIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, ports, _, ran := podAgent(t)
		step := func(want error) {
			t.Helper()
			ports.err = want
			if err := a.reconcilePods(t.Context()); !errors.Is(err, want) {
				t.Errorf("reconcilePods = %v, want %v", err, want)
			}
			if got := a.health.err(); (got == nil) != (want == nil) || ran() == 0 {
				t.Errorf("the node's health is %v after %v, or it is not reported", got, want)
			}
		}
		step(nil)
		step(vsdb.ErrNotConnected)
		step(nil)
	})
}
