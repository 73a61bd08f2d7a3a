// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testseeds"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/service"
	"github.com/waymark-net/waymark/service/naive"
	"github.com/waymark-net/waymark/service/random"
)

var plain = flag.Bool("noshrink", false, "leaves a failed case of TestDifferential as long as it is")

const (
	stepsOfCase   = 6
	packetsOfStep = 8
)

// TestDifferential runs random changes of Services and of the node, and after
// each step sends packets through the fake switch: every bucket is tried, answers
// come back, connections of earlier steps go on. What becomes of them is held
// against package naive, and so is what the host is told.
func TestDifferential(t *testing.T) {
	var count tally
	steps := func(seed uint64) []random.Step { return random.New(seed, newCluster()).Steps(stepsOfCase) }
	seed, err := testseeds.FirstFailure(300, 60, func(seed uint64) error {
		return runCase(steps(seed), seed, &count)
	})
	t.Log(count.String())
	if err == nil {
		count.check(t)
		return
	}
	t.Errorf("seed %d: %v", seed, err)
	if !*plain {
		short := random.Shrink(steps(seed), func(s []random.Step) bool { return kind(runCase(s, seed, &tally{})) == kind(err) })
		t.Errorf("made short: %v\n%s", runCase(short, seed, &tally{}), text(short))
	}
}

// kind is an error without what is of one case only, so that a case that is made
// short fails for the same reason.
func kind(err error) string {
	if err == nil {
		return ""
	}
	words := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == ' ' || r == '\n' })
	words = slices.DeleteFunc(words, func(w string) bool { return strings.ContainsAny(w, "0123456789/{}[]") })
	return strings.Join(words[:min(6, len(words))], " ")
}

// tally counts what was tried.
type tally struct {
	packets, traces, connections, forgotten, kept, beside, split atomic.Int64

	mu sync.Mutex
	// why counts verdicts by origins and reasons.
	why map[string]int
}

func (c *tally) verdict(p naive.Packet, v naive.Verdict) {
	c.packets.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == nil {
		c.why = map[string]int{}
	}
	c.why[fmt.Sprintf("%s, from %s: %s", v.Outcome, p.From, v.Why)]++
}

func (c *tally) String() string {
	out := fmt.Sprintf("%d packets, %d traces, %d times an open connection, %d times an endpoint by affinity, %d times beside another client's, "+
		"%d times endpoints in several groups, %d connections forgotten",
		c.packets.Load(), c.traces.Load(), c.connections.Load(), c.kept.Load(), c.beside.Load(), c.split.Load(), c.forgotten.Load())
	for _, why := range slices.Sorted(maps.Keys(c.why)) {
		out += fmt.Sprintf("\n%7d %s", c.why[why], why)
	}
	return out
}

// check reports what the API has a sentence for and did not happen.
func (c *tally) check(t *testing.T) {
	var want []string
	for _, from := range []naive.Origin{naive.FromPod, naive.FromNode, naive.FromOutside} {
		add := func(outcome naive.Outcome, why ...string) {
			for _, w := range why {
				want = append(want, fmt.Sprintf("%s, from %s: %s", outcome, from, w))
			}
		}
		for _, how := range []string{"ready endpoints", "ready endpoints for the node", "ready endpoints for the zone", "terminating endpoints"} {
			add(naive.Balanced, how+" of a ClusterIP", how+" of an external IP", how+" of a load balancer's IP", how+" of a NodePort")
		}
		for _, how := range []string{"ready endpoints of the node", "terminating endpoints of the node"} {
			add(naive.Balanced, how+" of a ClusterIP")
			if from == naive.FromOutside {
				add(naive.Balanced, how+" of an external IP", how+" of a load balancer's IP", how+" of a NodePort")
			}
		}
		add(naive.Refused, "there are no endpoints", "the ClusterIP has no such port")
		add(naive.Dropped, "the endpoints are on other nodes", "the client is in no source range")
		add(naive.Passes, "no Service has that address and port")
	}
	for _, w := range want {
		if c.why[w] == 0 {
			t.Errorf("never happened: %s", w)
		}
	}
	if c.kept.Load() == 0 || c.beside.Load() == 0 || c.split.Load() == 0 {
		t.Error("affinity, or endpoints in several groups, were never tried")
	}
}

func text(steps []random.Step) string {
	var b strings.Builder
	for i, step := range steps {
		fmt.Fprintf(&b, "step %d\n", i)
		for _, change := range step {
			fmt.Fprintf(&b, " %s\n", change)
		}
	}
	return b.String()
}

// newCluster is the node without Services.
func newCluster() naive.Cluster {
	c := naive.Cluster{
		Services:  map[service.Key]service.Service{},
		Node:      service.Node{Name: random.Node},
		NodePort4: pipeline.NodePort4, NodePort6: pipeline.NodePort6,
		NodeClients: [2]netip.Addr{pipeline.NodeClient4, pipeline.NodeClient6},
	}
	for _, p := range random.Pods {
		c.Pods = append(c.Pods, p...)
	}
	return c
}

// runCase runs one case.
func runCase(steps []random.Step, seed uint64, count *tally) error {
	n, err := newNode(seed, count)
	if err != nil {
		return err
	}
	packets := random.New(seed, newCluster())
	order := rand.New(rand.NewPCG(seed, 5))
	for i, step := range steps {
		if err := n.step(step); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if i%3 == 2 {
			if err := n.anew(order); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
		}
		if err := n.host(); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		frontends := n.cluster.Frontends()
		for range packetsOfStep {
			p, ok := packets.Packet(n.cluster, frontends)
			if !ok {
				continue
			}
			if err := n.check(p); err != nil {
				return fmt.Errorf("step %d: %w", i, err)
			}
		}
	}
	return n.removal()
}

// anew holds the compiler against one that was told the same things at once, in
// another order.
func (n *node) anew(order *rand.Rand) error {
	fresh := service.New()
	keys := n.cluster.Keys()
	order.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	at := order.IntN(len(keys) + 1)
	for i, k := range keys {
		if i == at {
			fresh.SetNode(n.cluster.Node)
		}
		fresh.Set(n.cluster.Services[k])
	}
	fresh.SetNode(n.cluster.Node)
	has := map[string]string{}
	for d := range fresh.Flush() {
		has[d.Owner] = lines(d)
	}
	if d := cmp.Diff(n.held, has); d != "" {
		return fmt.Errorf("by steps and at once (-steps +once):\n%s", d)
	}
	host, _ := fresh.Host()
	if d := cmp.Diff(n.told, host, addrs, addrPorts); d != "" {
		return fmt.Errorf("the host is told by steps and at once (-steps +once):\n%s", d)
	}
	return nil
}

// removal takes all Services away, after which there is nothing.
func (n *node) removal() error {
	var step random.Step
	for _, k := range slices.Collect(maps.Keys(n.cluster.Services)) {
		step = append(step, random.Change{Gone: &k})
	}
	if err := n.step(step); err != nil {
		return fmt.Errorf("removal: %w", err)
	}
	if owners := n.sw.Owners(); len(n.held) > 0 || !slices.Equal(owners, []string{baseOwner}) {
		return fmt.Errorf("removal leaves %v", owners)
	}
	return n.host()
}
