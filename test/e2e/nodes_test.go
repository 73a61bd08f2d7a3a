// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

const (
	// joiner is the node that comes and goes, in the rack and behind the router.
	joiner, joinerRack, joinerToR = "n9", "A", "torA"
	// promptly is how soon the router of its rack knows of a node that joined,
	// or left in order; soon is when all others know.
	promptly = 2 * time.Second
	soon     = 5 * time.Second
)

// checkNodes lets a node join, lose its power, come back and leave, and times
// its routes at the router of its rack and on a node of another one.
func checkNodes(t *testing.T, lab *cluster.Lab) {
	remote := nodeNames(lab)[len(nodeNames(lab))-1]
	tor, far := watchRoutes(t, lab, joinerToR), watchRoutes(t, lab, remote)
	check(t, "node joins", func(t *testing.T) {
		if err := lab.AddNode(t.Context(), joiner, joinerRack); err != nil {
			t.Fatal(err)
		}
		nodeAppears(t, lab, tor, far)
		deploy(t, lab)
		checkQuickMatrix(t, lab, 30*time.Second)
	})
	if t.Failed() {
		return
	}
	cidrs := podCIDRsOf(t, lab, joiner)
	check(t, "node loses power and comes back", func(t *testing.T) {
		// To a router, a node without power is one that restarts: it keeps the
		// routes for the restart time, so there is no moment to wait for.
		if err := lab.Fail(t.Context(), "kill-node", joiner); err != nil {
			t.Fatal(err)
		}
		if err := lab.Fail(t.Context(), "start-node", joiner); err != nil {
			t.Fatal(err)
		}
		eventually(t, 2*time.Minute, func(ctx context.Context) error { return settled(ctx, lab, joiner, 0) })
		deploy(t, lab)
		checkQuickMatrix(t, lab, time.Minute)
	})
	check(t, "node leaves", func(t *testing.T) {
		since := time.Now()
		kubectl(t, lab, "delete", "node", joiner, "--wait=false")
		nodeVanishes(t, cidrs, since, promptly, tor, far)
	})
	if err := lab.RemoveNode(t.Context(), joiner); err != nil {
		t.Fatal(err)
	}
	checkQuickMatrix(t, lab, 30*time.Second)
}

func podCIDRsOf(t *testing.T, lab *cluster.Lab, node string) []netip.Prefix {
	t.Helper()
	nodes, err := workload.PodCIDRs(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Name == node && len(n.PodCIDRs) > 0 {
			return n.PodCIDRs
		}
	}
	t.Fatalf("node %s has no Pod CIDRs", node)
	return nil
}

// nodeAppears waits for the agent of the joining node to be ready and checks
// that its routes are everywhere soon after, if they were not before.
func nodeAppears(t *testing.T, lab *cluster.Lab, watches ...*routeWatch) {
	t.Helper()
	eventually(t, 2*time.Minute, func(ctx context.Context) error {
		_, err := agent.get(ctx, lab, joiner, "/readyz")
		return err
	})
	ready := time.Now()
	for _, cidr := range podCIDRsOf(t, lab, joiner) {
		for _, w := range watches {
			at, err := w.await(t.Context(), time.Time{}, ready.Add(30*time.Second), func() []line { return w.added(cidr) })
			late := at.Sub(ready).Seconds()
			record(t, report.Measure(fmt.Sprintf("%s has %s after the agent is ready", w.router, familyName(cidr.Addr())), late, "s"),
				report.Check(fmt.Sprintf("%s has %s in time", w.router, familyName(cidr.Addr())), err == nil && late <= limitOf(w).Seconds(),
					noteOf(err, fmt.Sprintf("%.2f s after the agent was ready", late))))
		}
	}
}

// nodeVanishes checks that routes are gone within the limit.
func nodeVanishes(t *testing.T, cidrs []netip.Prefix, since time.Time, limit time.Duration, watches ...*routeWatch) {
	t.Helper()
	for _, cidr := range cidrs {
		for _, w := range watches {
			at, err := w.await(t.Context(), since, since.Add(limit+30*time.Second), func() []line { return w.gone(cidr) })
			took := at.Sub(since)
			record(t, report.Measure(fmt.Sprintf("%s forgets %s", w.router, familyName(cidr.Addr())), took.Seconds(), "s"),
				report.Check(fmt.Sprintf("%s forgets %s in time", w.router, familyName(cidr.Addr())), err == nil && took <= max(limit, limitOf(w)),
					noteOf(err, fmt.Sprintf("%.2f s", took.Seconds()))))
		}
	}
}

// limitOf is how soon a host knows of a node that joined or left.
func limitOf(w *routeWatch) time.Duration {
	if w.router == joinerToR {
		return promptly
	}
	return soon
}

func noteOf(err error, otherwise string) string {
	if err != nil {
		return err.Error()
	}
	return otherwise
}

// await returns when the first of some lines after a time came.
func (w *routeWatch) await(ctx context.Context, since, deadline time.Time, find func() []line) (time.Time, error) {
	var at time.Time
	err := cluster.Until(ctx, max(time.Until(deadline), time.Second), func(context.Context) error {
		for _, l := range find() {
			if l.at.After(since) {
				at = l.at
				return nil
			}
		}
		return errors.New("no word of it at " + w.router)
	})
	return at, err
}
