// SPDX-License-Identifier: Apache-2.0

package compute_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testseeds"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/compute"
	"github.com/waymark-net/waymark/policy/naive"
	"github.com/waymark-net/waymark/policy/random"
)

const (
	stepsOfCase   = 8
	packetsOfStep = 24
)

// TestDifferential runs random changes and holds every node's State after each
// step against package naive. What fails is made short and written to
// testdata/found, which TestFound runs again ever after.
func TestDifferential(t *testing.T) {
	steps := func(seed uint64) []random.Step { return random.New(seed).Steps(stepsOfCase) }
	seed, err := testseeds.FirstFailure(10000, 1000, func(seed uint64) error {
		return run(steps(seed), seed)
	})
	if err != nil {
		t.Errorf("seed %d: %v", seed, err)
		short := random.Shrink(steps(seed), func(s []random.Step) bool { return run(s, seed) != nil })
		t.Errorf("made short: %v\n%s", run(short, seed), keep(t, short, seed))
	}
}

type found struct {
	Seed  uint64 // of the packets
	Steps []random.Step
}

func keep(t *testing.T, steps []random.Step, seed uint64) string {
	text, err := json.MarshalIndent(found{seed, steps}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("testdata", "found", fmt.Sprintf("seed-%d.json", seed))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestFound runs the cases that once failed.
func TestFound(t *testing.T) {
	files, err := filepath.Glob("testdata/found/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var f found
			if err := json.Unmarshal(text, &f); err != nil {
				t.Fatal(err)
			}
			if err := run(f.Steps, f.Seed); err != nil {
				t.Error(err)
			}
		})
	}
}

// run runs one case.
func run(steps []random.Step, seed uint64) error {
	index, cluster := compute.New(compute.Params{}), naive.NewCluster()
	states := map[string]*policy.State{}
	for _, node := range random.Nodes {
		states[node] = policy.NewState()
	}
	packets := random.New(seed)
	for i, step := range steps {
		for _, change := range step {
			change.Apply(cluster)
			change.Tell(index)
		}
		if err := follow(index, states, seed%2 == 0); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		for node, state := range states {
			if err := check(index, cluster, node, state); err != nil {
				return fmt.Errorf("step %d, node %s: %w", i, node, err)
			}
		}
		if err := probe(packets, cluster, states); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	if err := anew(index, cluster); err != nil {
		return err
	}
	for _, change := range random.Removal(cluster) {
		change.Tell(index)
	}
	if err := follow(index, states, seed%2 == 0); err != nil {
		return fmt.Errorf("removal: %w", err)
	}
	index.Flush() // nodes go one later
	if size := index.Size(); size != (compute.Size{}) {
		return fmt.Errorf("removal leaves %+v", size)
	}
	for node, state := range states {
		if diff := cmp.Diff(policy.NewState(), state); diff != "" {
			return fmt.Errorf("removal: node %s (-want +got):\n%s", node, diff)
		}
	}
	return nil
}

// follow brings the states up to date as agents do: some ask for their own
// update, some get it with the others.
func follow(index *compute.Index, states map[string]*policy.State, alone bool) error {
	changes := index.Flush()
	var updates map[string]*policy.Update
	if !alone {
		updates = changes.Updates(nil)
	}
	for node, state := range states {
		update := updates[node]
		if alone {
			update = changes.Update(node)
		}
		if update == nil {
			continue
		}
		if err := proper(state, update); err != nil {
			return fmt.Errorf("node %s: %w", node, err)
		}
		state.Apply(update)
	}
	return nil
}

// proper reports what is wrong with an update of a state, whatever it leads to.
func proper(s *policy.State, u *policy.Update) error {
	seen := map[any]bool{}
	once := func(name any) error {
		if seen[name] {
			return fmt.Errorf("the update names %v twice", name)
		}
		seen[name] = true
		return nil
	}
	for _, p := range u.Policies {
		if err := once(p.Key); err != nil {
			return err
		}
	}
	for _, k := range u.GonePolicies {
		if err := once(k); err != nil {
			return err
		}
		if s.Policies[k] == nil {
			return fmt.Errorf("%s goes and was not there", k)
		}
	}
	for _, p := range u.Pods {
		if err := once(p.Key); err != nil {
			return err
		}
	}
	for _, k := range u.GonePods {
		if _, there := s.Pods[k]; !there {
			return fmt.Errorf("pod %s goes and was not there", k)
		}
		if err := once(k); err != nil {
			return err
		}
	}
	type identity policy.ID
	for _, i := range u.Identities {
		if err := once(identity(i.ID)); err != nil {
			return err
		}
	}
	for _, id := range u.GoneIdentities {
		if s.Identities[id] == nil {
			return fmt.Errorf("identity %s goes and was not there", id)
		}
		if err := once(identity(id)); err != nil {
			return err
		}
	}
	for _, id := range u.GoneGroups {
		if s.Groups[id] == nil {
			return fmt.Errorf("group %s goes and was not there", id)
		}
		if err := once(id); err != nil {
			return err
		}
	}
	for _, g := range u.Groups {
		if err := once(g.ID); err != nil {
			return err
		}
		set := s.Groups[g.ID]
		if set == nil && !g.Whole {
			return fmt.Errorf("group %s changes and was not there", g.ID)
		}
		added := map[any]bool{}
		for _, a := range g.Added {
			if _, in := set[a]; in && !g.Whole || added[a] {
				return fmt.Errorf("group %s: %s is added twice", g.ID, a)
			}
			added[a] = true
		}
		for _, a := range g.Removed {
			if _, in := set[a]; !in || added[a] || g.Whole {
				return fmt.Errorf("group %s: %s is removed and was not there", g.ID, a)
			}
		}
	}
	return nil
}

// check holds a node's state against the Index, and against what naive says
// that the node needs.
func check(index *compute.Index, cluster *naive.Cluster, node string, state *policy.State) error {
	if view := index.View(node); !equalStates(view, state) {
		return fmt.Errorf("state and view (-view +state):\n%s", cmp.Diff(view, state, netipComparer))
	}
	pods, needed := map[policy.PodKey]bool{}, map[policy.Key]bool{}
	for key, pod := range cluster.Pods {
		if pod.Node != node || !pod.Judged() {
			continue
		}
		pods[key] = true
		got, there := state.Pods[key]
		if !there || got.UID != pod.UID || got.Identity != policy.IdentityOf(key.Namespace, pod.Labels, pod.Ports) {
			return fmt.Errorf("pod %s is %+v", key, got)
		}
		for key, p := range cluster.Policies {
			if cluster.Selects(p.Subject, pod) {
				needed[key] = true
			}
		}
	}
	if len(pods) != len(state.Pods) {
		return fmt.Errorf("%d Pods, has %d", len(pods), len(state.Pods))
	}
	if got, want := slices.Collect(maps.Keys(state.Policies)), slices.Collect(maps.Keys(needed)); len(got) != len(want) ||
		slices.ContainsFunc(got, func(k policy.Key) bool { return !needed[k] }) {
		return fmt.Errorf("needs policies %v, has %v", want, got)
	}
	identities, groups := map[policy.ID]bool{}, map[policy.ID]bool{}
	digests := index.Digests(node)
	for _, p := range state.Pods {
		identities[p.Identity] = true
	}
	for _, p := range state.Policies {
		for _, r := range p.Rules {
			for _, id := range r.Peers {
				groups[id] = true
			}
		}
	}
	for id, i := range state.Identities {
		if !identities[id] || i == nil {
			return fmt.Errorf("identity %s is needed by nobody", id)
		}
		delete(identities, id)
	}
	for id, set := range state.Groups {
		if !groups[id] {
			return fmt.Errorf("group %s is needed by nobody", id)
		}
		delete(groups, id)
		if digest, known := digests[id]; !known || digest != set.Digest() {
			return fmt.Errorf("group %s has digest %s, known as %s", id, set.Digest(), digest)
		}
	}
	if len(identities)+len(groups) > 0 {
		return fmt.Errorf("identities %v and groups %v are missing", identities, groups)
	}
	return nil
}

// probe compares verdicts on packets.
func probe(packets *random.Generator, cluster *naive.Cluster, states map[string]*policy.State) error {
	pods := slices.SortedFunc(maps.Values(cluster.Pods), func(a, b policy.PodIntent) int {
		return strings.Compare(a.Key.String(), b.Key.String())
	})
	for range packetsOfStep {
		packet, ok := packets.Packet(pods)
		if !ok {
			return nil
		}
		peer := packet.Source
		if packet.Direction == policy.Egress {
			peer = packet.Destination
		}
		want, why := cluster.Verdict(packet)
		got := states[cluster.Pods[packet.Pod].Node].Judge(policy.Connection{
			Pod: packet.Pod, Direction: packet.Direction, Peer: peer, Protocol: packet.Protocol, Port: packet.Port,
		})
		if got.Allowed != want {
			return fmt.Errorf("%s %s with %s, protocol %d, port %d: the state says allowed=%t by %+v, naive %t: %s",
				packet.Pod, packet.Direction, peer, packet.Protocol, packet.Port, got.Allowed, got.Policy, want, why)
		}
	}
	return nil
}

// anew holds the Index against one that is told the same objects at once, in
// another order.
func anew(index *compute.Index, cluster *naive.Cluster) error {
	fresh := compute.New(compute.Params{})
	for _, change := range random.Contents(cluster) {
		change.Tell(fresh)
	}
	fresh.Flush()
	for _, node := range random.Nodes {
		if had, has := index.View(node), fresh.View(node); !equalStates(had, has) {
			return fmt.Errorf("node %s: by steps and at once (-steps +once):\n%s", node, cmp.Diff(had, has, netipComparer))
		}
	}
	return nil
}
