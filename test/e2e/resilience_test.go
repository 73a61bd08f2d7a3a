// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/bench/measure"
	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

var (
	resilience = flag.Bool("resilience", false, "disturb the cluster in every way of docs/resilience.md, under load, and write out/resilience/report.json")
	switches   = flag.Int("switches", 100, "how many mode switches TestResilience makes")
	kills      = flag.Int("kills", 20, "how often TestResilience kills the agent")
)

// ordeal is something that happens to a cluster under load.
type ordeal struct {
	name string
	// allowed bounds how long packets may be lost; 0: not one may be.
	allowed time.Duration
	// run returns what there is to say of it.
	run func(t *testing.T) string
}

const (
	// away is how long nothing is there that is taken away.
	away = time.Minute
	// bfdInterval and bfdMultiplier are those of the product, and of FRR, by default.
	bfdInterval   = 300 * time.Millisecond
	bfdMultiplier = 3
	// switchGap bounds the outage where the userspace switch itself ends: it is the
	// datapath.
	switchGap = 15 * time.Second
)

// TestResilience is what docs/resilience.md tells of: each ordeal under the same
// load, with a row of its own. What `make e2e` runs of it is a short choice in other
// cases, under less.
func TestResilience(t *testing.T) {
	if !*resilience {
		t.Skip("make e2e-resilience")
	}
	t.Run("racks", func(t *testing.T) {
		lab := newLab(t, "racks", func(d *cluster.Description) { d.Tags = []string{"latest", upgradeTag} })
		deploy(t, lab)
		for _, o := range slices.Concat(ordealsOfSwitches(lab), ordealsOfParts(lab)) {
			endure(t, lab, o)
		}
		checkAuto(t, lab)
		switchMode(t, lab, variants[0])
		t.Run("drain", func(t *testing.T) { checkDrain(t, lab) })
	})
	t.Run("two routers", func(t *testing.T) {
		lab := newLab(t, "tworouters", func(d *cluster.Description) {
			d.Network.Nodes = 2
			d.Network.DualHomed, d.Network.Routers.DefaultRoute, d.Network.Routers.BFD = true, true, true
		})
		for _, tor := range lab.Topology.WithRole(topology.RoleToR) {
			for _, group := range peerGroups {
				configure(t, lab, tor.Name, fmt.Sprintf("neighbor %s bfd %d %d %d", group, bfdMultiplier, bfdInterval.Milliseconds(), bfdInterval.Milliseconds()))
			}
		}
		deploy(t, lab)
		checkDualHomed(t, lab, bfdMultiplier*bfdInterval+100*time.Millisecond)
	})
}

// endure runs an ordeal under load.
func endure(t *testing.T, lab *cluster.Lab, o ordeal) {
	t.Helper()
	check(t, o.name, func(t *testing.T) {
		pods, err := workload.Pods(t.Context(), lab, workload.Namespace, "app=probe-a")
		if err != nil {
			t.Fatal(err)
		}
		tr := startLoad(t, lab, pods)
		before := podStarts(t, lab)
		note := o.run(t)
		checkQuickMatrix(t, lab, regained)
		if after := podStarts(t, lab); after != before {
			t.Errorf("Pods are others, or were restarted:\n%s\nbefore:\n%s", after, before)
		}
		row := tr.finish(t).row(o.name, o.allowed, note)
		t.Logf("longest gap %.0f ms; %s", *row.Value, row.Note)
		suite.add(t, row)
	})
}

// podStarts are the Pods under test, with how often they were started.
func podStarts(t *testing.T, lab *cluster.Lab) string {
	t.Helper()
	return kubectl(t, lab, "-n", workload.Namespace, "get", "pods",
		"-o", `jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.containerStatuses[*].restartCount}{"\n"}{end}`)
}

// ordealsOfSwitches change the mode.
func ordealsOfSwitches(lab *cluster.Lab) []ordeal {
	home, there := variants[0], variants[1]
	begin := func(t *testing.T, v variant) {
		t.Helper()
		if err := workload.ApplyMode(t.Context(), lab, v.mode, v.settings); err != nil {
			t.Fatal(err)
		}
	}
	return []ordeal{
		{fmt.Sprintf("%d mode switches in random order", *switches), 0, func(t *testing.T) string {
			return manySwitches(t, lab, *switches)
		}},
		{"switches reversed in each phase", 0, func(t *testing.T) string {
			for _, phase := range []string{"Prepare", "Flip", "Finish"} {
				begin(t, there)
				eventually(t, regained, func(ctx context.Context) error { return reachedPhase(ctx, lab, phase) })
				switchMode(t, lab, home)
			}
			return "in Prepare, in Flip, in Finish"
		}},
		{"controllers killed in a switch", 0, func(t *testing.T) string {
			for _, v := range []variant{there, home} {
				begin(t, v)
				eventually(t, regained, func(ctx context.Context) error { return reachedPhase(ctx, lab, "Prepare") })
				for _, node := range controllerNodes(t, lab) {
					exec(t, lab, node, "pkill", "-KILL", "-x", "waymark-control") // as much of the name as the kernel keeps
				}
				switchMode(t, lab, v)
			}
			return "there and back, both replicas at once"
		}},
		{"an agent stopped in a switch", 0, func(t *testing.T) string {
			const node = "n2"
			signal := func(ctx context.Context, name string) error {
				_, err := lab.Exec(ctx, node, "pkill", "-"+name, "-x", "waymark-agent")
				return err
			}
			defer func() { _ = signal(context.WithoutCancel(t.Context()), "CONT") }()
			said := ""
			for _, v := range []variant{there, home} {
				if err := signal(t.Context(), "STOP"); err != nil {
					t.Fatal(err)
				}
				begin(t, v)
				eventually(t, regained, func(ctx context.Context) error {
					r, err := latestRollout(ctx, lab)
					if said = r.Message; err == nil && !strings.Contains(said, node) {
						err = fmt.Errorf("the rollout says %q", said)
					}
					return err
				})
				if err := signal(t.Context(), "CONT"); err != nil {
					t.Fatal(err)
				}
				switchMode(t, lab, v)
			}
			return fmt.Sprintf("the rollout said %q", said)
		}},
	}
}

// manySwitches ends in noEncap.
func manySwitches(t *testing.T, lab *cluster.Lab, n int) string {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var seconds []float64
	now := 0
	for range n {
		next := (now + 1 + random.IntN(len(variants)-1)) % len(variants)
		began := time.Now()
		switchMode(t, lab, variants[next])
		seconds = append(seconds, time.Since(began).Seconds())
		t.Logf("from %s to %s: %s, %.1f s", variants[now].name, variants[next].name, began.Format(clock), seconds[len(seconds)-1])
		now = next
	}
	switchMode(t, lab, variants[0])
	return fmt.Sprintf("a switch took %.1f s (median), %.1f s at most", measure.Quantile(seconds, 0.5), slices.Max(seconds))
}

// rolloutSeen is what the tests look at of a rollout's status.
type rolloutSeen struct{ Phase, Message string }

func latestRollout(ctx context.Context, lab *cluster.Lab) (rolloutSeen, error) {
	out, err := lab.Kubectl(ctx, "get", "networkrollouts", "--sort-by=.metadata.creationTimestamp", "-o", "json")
	if err != nil {
		return rolloutSeen{}, err
	}
	var list struct {
		Items []struct{ Status rolloutSeen }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return rolloutSeen{}, err
	}
	if len(list.Items) == 0 {
		return rolloutSeen{}, errors.New("no rollout")
	}
	return list.Items[len(list.Items)-1].Status, nil
}

// reachedPhase complains until the latest rollout is in a phase, or after it.
func reachedPhase(ctx context.Context, lab *cluster.Lab, phase string) error {
	phases := []string{"Prepare", "Flip", "Finish", "Complete"}
	r, err := latestRollout(ctx, lab)
	if err == nil && slices.Index(phases, r.Phase) < slices.Index(phases, phase) {
		err = fmt.Errorf("the rollout is in %q, want %s", r.Phase, phase)
	}
	return err
}

// ordealsOfParts end parts of the product, and what it runs on.
func ordealsOfParts(lab *cluster.Lab) []ordeal {
	nodes := nodeNames(lab)
	agents := func(t *testing.T) {
		t.Helper()
		for _, node := range nodes {
			eventually(t, 90*time.Second, func(ctx context.Context) error { return settled(ctx, lab, node, 0) })
		}
	}
	// killed ends a program on one node after the other.
	killed := func(program string, d daemon) func(t *testing.T) string {
		return func(t *testing.T) string {
			for _, node := range nodes {
				var start float64
				if d.name != "" {
					m, err := d.metrics(t.Context(), lab, node)
					if err != nil {
						t.Fatal(err)
					}
					start = m.started()
				}
				exec(t, lab, node, "sh", "-ec", kill+"kill9 "+program)
				if d.name != "" {
					eventually(t, 90*time.Second, func(ctx context.Context) error { return restarted(ctx, lab, d, node, start) })
				}
				agents(t)
				checkQuickMatrix(t, lab, regained)
			}
			return "on each node in turn"
		}
	}
	rolled := func(name string, d daemon, containers ...string) func(t *testing.T) string {
		return func(t *testing.T) string {
			for _, tag := range []string{upgradeTag, "latest"} {
				roll(t, lab, name, tag, containers...)
				agents(t)
			}
			return "to another image and back"
		}
	}
	return []ordeal{
		{fmt.Sprintf("agent killed, %d times", *kills), 0, func(t *testing.T) string {
			for n := range *kills {
				node := nodes[n%len(nodes)]
				start := agentStart(t, lab, node)
				killAgent(t, lab, node)
				eventually(t, 90*time.Second, func(ctx context.Context) error { return settled(ctx, lab, node, start) })
			}
			return "on the nodes in turn"
		}},
		{"agent upgraded", 0, rolled("waymark-agent", agent, "agent", "install-cni")},
		{"routing speaker killed", 0, killed("waymark-speaker", speaker)},
		{"routing speaker upgraded", 0, rolled("waymark-speaker", speaker, "speaker")},
		{"ovs-vswitchd killed", switchGap, killed("ovs-vswitchd", daemon{})},
		{"ovsdb-server killed", 0, killed("ovsdb-server", daemon{})},
		{"Open vSwitch replaced, as by an upgrade", switchGap, func(t *testing.T) string {
			replaceSwitches(t, lab)
			agents(t)
			return "on each node in turn"
		}},
		{"containerd killed", 0, killed("containerd", daemon{})},
		{"kubelet killed", 0, killed("kubelet", daemon{})},
		{fmt.Sprintf("no controller for %s", away), 0, func(t *testing.T) string {
			scaleControllers(t, lab, 0)
			timer := time.NewTimer(away)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-t.Context().Done():
			}
			scaleControllers(t, lab, 2)
			eventually(t, moved, func(ctx context.Context) error { return connected(ctx, lab, 1) })
			return "both replicas"
		}},
		{"drift, once a second for two minutes", repairedWithin, func(t *testing.T) string {
			checkDrift(t, lab, 2*time.Minute)
			return ""
		}},
	}
}

// replaceSwitches puts another Pod with Open vSwitch on each node, one after the
// other. A node without a switch has to have a network all the same, or it never
// learns of the Pod with the next one.
func replaceSwitches(t *testing.T, lab *cluster.Lab) {
	t.Helper()
	kubectl(t, lab, "-n", "kube-system", "rollout", "restart", "daemonset/waymark-ovs")
	kubectl(t, lab, "-n", "kube-system", "rollout", "status", "daemonset/waymark-ovs", "--timeout=180s")
}

// reportOf is what the report of the run is of, and where it is written.
func reportOf() (p report.Params, path string) {
	if *resilience {
		return report.Params{Name: "resilience", Command: "make e2e-resilience"}, "out/resilience/report.json"
	}
	return report.Params{Name: "e2e", Command: "make e2e"}, "out/e2e/report.json"
}
