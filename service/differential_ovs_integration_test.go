// SPDX-License-Identifier: Apache-2.0

//go:build integration

package service_test

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/service"
	"github.com/waymark-net/waymark/service/naive"
	"github.com/waymark-net/waymark/service/random"
)

// How much a real switch is asked: a trace takes a millisecond or
// two.
const (
	realCases   = 40
	realSteps   = 4
	realPackets = 25
	// realShares is of how many packets every place of the group is tried.
	realShares = 20
)

// realSwitch is a node whose flows a real Open vSwitch has too.
type realSwitch struct {
	*node
	tracer *ovstest.HashTracer
	target *openflow.Target
	// owners are those that have something in the switch.
	owners map[string]bool
	// done counts packets by outcome.
	done map[string]int
	// shares is how often all places of a group are to be tried yet.
	shares int
}

// TestDifferentialOVS is TestDifferential with a real switch: after each step of
// random changes, what Open vSwitch itself does with packets to Services, and
// with some beside them, is held against package naive.
func TestDifferentialOVS(t *testing.T) {
	r := newRealSwitch(t)
	for seed := range uint64(realCases) {
		if err := r.run(t, 1+seed); err != nil {
			t.Fatalf("seed %d: %v", 1+seed, err)
		}
	}
	t.Logf("packets: %v", r.done)
	for _, what := range []naive.Outcome{naive.Passes, naive.Refused, naive.Dropped, naive.Balanced} {
		for _, from := range []naive.Origin{naive.FromPod, naive.FromNode, naive.FromOutside} {
			if name := fmt.Sprintf("%s from %s", what, from); r.done[name] == 0 {
				t.Errorf("never happened: %s", name)
			}
		}
	}
	if r.shares > 0 {
		t.Errorf("the places of %d groups only were tried", realShares-r.shares)
	}
	for _, tc := range []struct {
		vip, first string
		count      int
	}{{"fd00:96::1", "fd10:0:0:3::1", 40}, {"10.96.0.1", "10.10.3.1", 258}} {
		if err := r.many(t, manyEndpoints(netip.MustParseAddr(tc.vip), netip.MustParseAddr(tc.first), tc.count)); err != nil {
			t.Errorf("%d endpoints: %v", tc.count, err)
		}
	}
}

func newRealSwitch(t *testing.T) *realSwitch {
	t.Helper()
	o := ovstest.StartOVS(t)
	r := &realSwitch{owners: map[string]bool{}, done: map[string]int{}, shares: realShares}
	const bridge = "br-int"
	o.AddBridge(bridge, ovstest.DatapathDummy)
	// A port without encapsulation takes the place of the tunnel, which needs
	// routes of the kernel.
	ports := map[string]uint32{"gw": gatewayPort, "tunnel": tunnelPort}
	for i := range random.Pods {
		ports[fmt.Sprintf("pod%d", i)] = firstPod + uint32(i)
	}
	for name, number := range ports {
		o.AddPort(bridge, name, "dummy", number)
	}
	r.tracer = o.HashTracer(bridge)
	r.target = openflow.New(openflow.Params{
		Socket: o.Socket(bridge), Learned: pipeline.LearnedTables(), Meters: []flow.Meter{{ID: pipeline.RefuseMeter, Rate: 100}},
	})
	if err := r.target.Update(baseOwner, nodeFlows(), nil); err != nil {
		t.Fatal(err)
	}
	r.target.Complete()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.target.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return r
}

// Update is openflow.Target.Update.
func (r *realSwitch) Update(owner string, flows []flow.Flow, groups []flow.Group) error {
	r.owners[owner] = true
	return r.target.Update(owner, flows, groups)
}

// Delete is openflow.Target.Delete.
func (r *realSwitch) Delete(owner string) {
	delete(r.owners, owner)
	r.target.Delete(owner)
}

// run runs one case. The next one begins with a switch without Services.
func (r *realSwitch) run(t *testing.T, seed uint64) error {
	n, err := newNode(seed, &tally{})
	if err != nil {
		return err
	}
	r.node, n.beside = n, r
	packets := random.New(seed, newCluster())
	steps := random.New(seed, newCluster()).Steps(realSteps)
	for i, step := range steps {
		if err := n.step(step); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if err := r.sync(t); err != nil {
			return err
		}
		frontends := n.cluster.Frontends()
		for range realPackets {
			p, ok := packets.Packet(n.cluster, frontends)
			if !ok {
				continue
			}
			if err := r.ask(p); err != nil {
				return fmt.Errorf("step %d: %w\n%s", i, err, text(steps[:i+1]))
			}
		}
	}
	for owner := range r.owners {
		r.Delete(owner)
	}
	return nil
}

// many tries all places of the groups of a Service, some of whose endpoints are in
// two slices.
func (r *realSwitch) many(t *testing.T, s service.Service) error {
	all := s.Ports[0].Endpoints
	s.Ports[0].Endpoints = slices.Concat(all, all[:len(all)/3])
	n, err := newNode(1, &tally{})
	if err != nil {
		return err
	}
	r.node, n.beside = n, r
	if err := n.step(random.Step{{Set: &s}}); err != nil {
		return err
	}
	if err := r.sync(t); err != nil {
		return err
	}
	p := naive.Packet{
		From: naive.FromPod, Protocol: service.TCP, Destination: netip.AddrPortFrom(s.ClusterIPs[0], 80), Source: podLike(s.ClusterIPs[0]),
	}
	return r.askAll(p, n.cluster.Verdict(p))
}

func (r *realSwitch) sync(t *testing.T) error {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return r.target.Sync(ctx)
}

// ask holds what the switch does with a packet against naive.
func (r *realSwitch) ask(p naive.Packet) error {
	want := r.cluster.Verdict(p)
	p = r.fresh(p)
	r.done[fmt.Sprintf("%s from %s", want.Outcome, p.From)]++
	switch want.Outcome {
	case naive.Refused:
		return r.expectOne(p, want, between(flow.PortController, p.Source, p.Destination))
	case naive.Dropped:
		return r.expectOne(p, want, nowhere)
	case naive.Passes:
		return r.expectOne(p, want, r.passes(p))
	}
	if n := len(want.Endpoints); r.shares > 0 && n > 2 && n <= perGroup {
		r.shares--
		return r.askAll(p, want)
	}
	_, err := r.balanced(p, want, r.hash())
	return err
}

// perGroup is how many endpoints share one group; where there are more, each group
// gives the places that are left over to others.
const perGroup = 16

// askAll tries all places of the groups: each endpoint gets the same share.
func (r *realSwitch) askAll(p naive.Packet, want naive.Verdict) error {
	n, ports := len(want.Endpoints), 1
	for ports*perGroup < n {
		ports *= 2
	}
	got := map[netip.AddrPort]int{}
	for range ports {
		p = r.fresh(p)
		for hash := range uint32(places) {
			e, err := r.balanced(p, want, places+hash) // a hash of 0 would be none
			if err != nil {
				return err
			}
			got[e]++
		}
	}
	for _, e := range want.Endpoints {
		if each := places * ports / n; got[e.AddrPort] < each || got[e.AddrPort] > each+1 {
			return fmt.Errorf("%s: the places of the groups are not shared evenly: %v", p, got)
		}
	}
	return nil
}

// balanced returns the endpoint that a packet with a hash gets.
func (r *realSwitch) balanced(p naive.Packet, want naive.Verdict, hash uint32) (netip.AddrPort, error) {
	got, trace, err := r.trace(p, hash)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, e := range want.Endpoints {
		if got == r.arrives(connection{first: p, set: want.Set, endpoint: e}) {
			return e.AddrPort, nil
		}
	}
	return netip.AddrPort{}, fmt.Errorf("%s: %s, wants one of %v (%s):\n%s", p, got, want.Endpoints, want.Why, trace)
}

// expectOne traces a packet of which one thing only can become.
func (r *realSwitch) expectOne(p naive.Packet, verdict naive.Verdict, want string) error {
	got, trace, err := r.trace(p, r.hash())
	if err == nil && got != want {
		err = fmt.Errorf("%s: %s, wants %s (%s: %s):\n%s", p, got, want, verdict.Outcome, verdict.Why, trace)
	}
	return err
}

// hash is one that a datapath could compute.
func (r *realSwitch) hash() uint32 { return 1 + r.random.Uint32N(math.MaxUint32) }

// trace says where a packet leaves the real switch, as leaves does.
func (r *realSwitch) trace(p naive.Packet, hash uint32) (out, trace string, err error) {
	v, err := r.tracer.Trace(r.fields(p.From, p.Source, p.Destination, p.Protocol), hash)
	if err != nil {
		return "", "", err
	}
	ports := v.Ports
	if v.Controller {
		ports = append(ports, flow.PortController)
	}
	var all []string
	for _, port := range ports {
		all = append(all, between(port, v.Src, v.Dst))
	}
	if len(all) == 0 {
		return nowhere, v.Text, nil
	}
	return strings.Join(all, ", "), v.Text, nil
}
