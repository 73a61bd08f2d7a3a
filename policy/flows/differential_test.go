// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"flag"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/policy"
)

var seed = flag.Uint64("seed", 1, "of the first random world or cluster")

// TestVerdictsOfRandomPolicies compares what the fake switch does with packets
// with what the policies say, after every random change: first packets, answers,
// and connections from before the change.
func TestVerdictsOfRandomPolicies(t *testing.T) {
	const wanted = 20000
	cases, denied, aims := 0, 0, aims{}
	for seed := *seed; cases < wanted; seed++ {
		g, n := newGenerator(seed), newNode(t, Params{})
		g.aims = aims
		var open []packet
		for range 8 {
			g.step(n)
			n.checkOpen(&open, &cases)
			for _, p := range g.packets(n) {
				// The fake tells no two pings between the same ends apart.
				if !n.concerned(p) || n.tracked(p.answer()) {
					continue
				}
				if n.check(p, &cases) {
					open = append(open, p)
				} else {
					denied++
				}
				open = open[max(0, len(open)-3):]
			}
			if t.Failed() {
				t.Fatalf("seed %d, after %d cases", seed, cases)
			}
		}
	}
	t.Logf("%d cases, %d connections denied", cases, denied)
}

// checkOpen sends one more packet in every connection, in both directions, and
// forgets those of Pods that are gone.
func (n *node) checkOpen(open *[]packet, cases *int) {
	n.t.Helper()
	var still []packet
	for _, p := range *open {
		if n.concerned(p) {
			n.check(p, cases)
			still = append(still, p)
		}
	}
	*open = still
}

// concerned says whether an end of a connection is a Pod of the node.
func (n *node) concerned(p packet) bool {
	_, src := n.at(p.src)
	_, dst := n.at(p.dst)
	return src || dst
}

// check sends a packet that begins or continues a connection, and its answer if
// there is a connection.
func (n *node) check(p packet, cases *int) bool {
	n.t.Helper()
	want, wantAnswer := "drop", "drop"
	known := n.tracked(p)
	_, local := n.at(p.src)
	if known && n.local[p] != local {
		return false // the Pod came or went: it is another one's connection
	}
	n.local[p] = local
	allowed := n.allowed(p)
	if allowed {
		want, wantAnswer = n.want(p), n.want(p.answer())
	}
	*cases++
	if v := n.send(p, false); becomes(v) != want {
		n.t.Errorf("case %d: %v: %v, want %s; it met:\n%s", *cases, p, v, want, v.Met())
	}
	if !allowed && !known {
		return false
	}
	*cases++
	if v := n.send(p.answer(), true); becomes(v) != wantAnswer {
		n.t.Errorf("case %d: answer to %v: %v, want %s; it met:\n%s", *cases, p, v, wantAnswer, v.Met())
	}
	return true
}

// becomes is what becomes of a packet; that the controller hears of it does not
// count.
func becomes(v ovstest.Verdict) string {
	v.Outputs = slices.DeleteFunc(v.Outputs, func(o ovstest.Output) bool { return o.Port == flow.PortController })
	return v.String()
}

// tracked says whether the switch knows the connection.
func (n *node) tracked(p packet) bool {
	for _, c := range n.sw.Connections() {
		if c.Proto == p.proto && c.Src.Addr() == p.src && c.Dst.Addr() == p.dst && c.Src.Port() == p.sport && c.Dst.Port() == p.dport {
			return true
		}
	}
	return false
}

// whole is the update from nothing to a state.
func whole(s *policy.State) *policy.Update {
	u := &policy.Update{}
	for _, p := range s.Policies {
		u.Policies = append(u.Policies, p)
	}
	for id, set := range s.Groups {
		gu := policy.GroupUpdate{ID: id, Whole: true}
		for a := range set {
			gu.Added = append(gu.Added, a)
		}
		u.Groups = append(u.Groups, gu)
	}
	for i := range maps.Values(s.Identities) {
		u.Identities = append(u.Identities, i)
	}
	for p := range maps.Values(s.Pods) {
		u.Pods = append(u.Pods, p)
	}
	return u
}

// TestHistoryDoesNotMatter: whatever led to a state, its flows are those that an
// Engine gives that is told all at once. The second hash makes many numbers
// collide.
func TestHistoryDoesNotMatter(t *testing.T) {
	for name, hash := range map[string]func(string) uint32{
		"hash": hash32, "collisions": func(s string) uint32 { return hash32(s) & 0x3f },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 3; seed++ {
				g, n := newGenerator(seed), newNode(t, Params{hash: hash})
				for step := range 25 {
					g.step(n)
					fresh := newNode(t, n.engine.params)
					c := Change{Update: whole(n.engine.State())}
					for _, p := range n.pods {
						c.Attached = append(c.Attached, fresh.attach(p))
					}
					fresh.apply(c)
					if d := cmp.Diff(fresh.sw.Dump(), n.sw.Dump()); d != "" {
						t.Fatalf("seed %d, step %d (-fresh +grown):\n%s", seed, step, d)
					}
					if d := cmp.Diff(fresh.engine.Rules(), n.engine.Rules(), cmp.AllowUnexported(RuleRef{})); d != "" {
						t.Fatalf("seed %d, step %d: rules (-fresh +grown):\n%s", seed, step, d)
					}
					if again := n.engine.Apply(Change{Update: whole(n.engine.State())}); len(again.Changes) != 0 {
						t.Fatalf("seed %d, step %d: the same again changes %v", seed, step, again)
					}
				}
			}
		})
	}
}
