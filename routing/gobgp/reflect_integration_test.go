// SPDX-License-Identifier: Apache-2.0

//go:build integration

package gobgp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

// fabric is four nodes in namespaces of their own on one link.
type fabric struct {
	nodes [4]*testnet.Namespace
	// restart is the restart time of all.
	restart time.Duration
}

func newFabric(t *testing.T, restart time.Duration) *fabric {
	t.Helper()
	f := &fabric{restart: restart}
	bridge := testnet.New(t, "bridge")
	bridge.Exec(t, "ip link add br0 type bridge")
	bridge.Exec(t, "ip link set br0 up")
	for i := range f.nodes {
		f.nodes[i] = testnet.New(t, fmt.Sprintf("n%d", i+1))
		port := fmt.Sprintf("p%d", i+1)
		testnet.Veth(t,
			testnet.End{NS: f.nodes[i], Name: "eth0", Addrs: []string{f.address(i).String() + "/24", f.address6(i).String() + "/64"}},
			testnet.End{NS: bridge, Name: port})
		bridge.Exec(t, "ip link set "+port+" master br0")
	}
	return f
}

func (*fabric) address(i int) netip.Addr  { return ip(fmt.Sprintf("192.0.2.%d", i+1)) }
func (*fabric) address6(i int) netip.Addr { return ip(fmt.Sprintf("2001:db8::%d", i+1)) }

// conf is the configuration of node i with sessions to the nodes peers, as
// internal/kube makes it; clients are those of them whose reflector it is.
func (f *fabric) conf(i int, peers, clients []int) routing.BGPConfig {
	local := routing.Node{Name: fmt.Sprintf("n%d", i+1), Addresses: []netip.Addr{f.address(i), f.address6(i)}}
	c := routing.BGPConfig{Speaker: routing.SpeakerConfig{
		ASN: 64512, RouterID: f.address(i), MaximumPaths: 8,
		GracefulRestart: routing.GracefulRestart{Enabled: true, RestartTime: f.restart},
	}}
	for k := range f.nodes {
		v4, v6 := pfx(fmt.Sprintf("10.10.%d.0/24", k+1)), pfx(fmt.Sprintf("fd10:0:0:%d::/64", k+1))
		c.Scope.ClusterCIDRs = append(c.Scope.ClusterCIDRs, v4, v6)
		if k == i {
			local.PodCIDRs = []netip.Prefix{v4, v6}
		}
	}
	for _, p := range local.PodCIDRs {
		c.Advertisements = append(c.Advertisements, routing.Advertisement{Prefix: p, NextHops: local.Addresses})
	}
	c.Scope.Local = local
	for _, k := range peers {
		c.Peers = append(c.Peers, routing.Peer{
			Name: fmt.Sprintf("nodes.n%d", k+1), Node: fmt.Sprintf("n%d", k+1), Address: f.address(k), SourceAddress: f.address(i), ASN: 64512,
			Passive:    f.address(i).Less(f.address(k)),
			Reflection: routing.Reflection{Client: slices.Contains(clients, k), PassOn: true},
			Timers:     routing.Timers{Hold: 9 * time.Second, ConnectRetry: 2 * time.Second},
		})
	}
	return c
}

// learns are the routes to the Pods of all nodes but i, each learned from the
// peer that from names.
func (f *fabric) learns(i int, others []int, from func(k int) int) func(routing.PathEvent, []routing.SessionStatus) bool {
	var v4, v6 []routing.LearnedRoute
	for _, k := range others {
		if k == i {
			continue
		}
		peer := fmt.Sprintf("nodes.n%d", from(k)+1)
		v4 = append(v4, route(fmt.Sprintf("10.10.%d.0/24", k+1), f.address(k).String(), peer))
		v6 = append(v6, route(fmt.Sprintf("fd10:0:0:%d::/64", k+1), f.address6(k).String(), peer))
	}
	return has(append(v4, v6...)...)
}

// child starts a speaker in the namespace of node i.
func (f *fabric) child(t *testing.T, i int) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startChildBy(t, f.nodes[i].Command(context.Background(), self))
}

var all = []int{0, 1, 2, 3}

func except(i int) []int {
	return slices.DeleteFunc(slices.Clone(all), func(k int) bool { return k == i })
}

// TestMesh: every node learns every other's Pod CIDRs from itself, and what one
// learned it does not pass on.
func TestMesh(t *testing.T) {
	testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) {
		f := newFabric(t, 20*time.Second)
		var nodes [4]*child
		for i := range nodes {
			nodes[i] = f.child(t, i)
			nodes[i].set(f.conf(i, except(i), nil))
		}
		itself := func(k int) int { return k }
		for i, n := range nodes {
			n.eventually("the mesh", f.learns(i, all, itself))
			n.eventually("counted", func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
				return len(ss) == 3 && !slices.ContainsFunc(ss, func(s routing.SessionStatus) bool {
					return s.Families[0].Received != 1 || s.Families[1].Received != 1
				})
			})
		}
		// One leaves.
		nodes[3].set(routing.BGPConfig{})
		for i, n := range nodes[:3] {
			n.eventually("without n4", f.learns(i, []int{0, 1, 2}, itself))
		}
	})
}

// TestRouteReflector: three clients learn each other's Pod CIDRs from the fourth
// node, with the next hops of their owners. Without the reflector the routes
// stay for its restart time; after its restart none is missed.
func TestRouteReflector(t *testing.T) {
	testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) {
		f := newFabric(t, 20*time.Second)
		var nodes [4]*child
		for i := range nodes {
			nodes[i] = f.child(t, i)
		}
		reflector := func() {
			t.Helper()
			c := f.conf(0, except(0), except(0))
			c.Peers[0].Reflection.ClusterID = ip("192.0.2.100")
			nodes[0].set(c)
		}
		reflector()
		for i := 1; i < 4; i++ {
			nodes[i].set(f.conf(i, []int{0}, nil))
		}
		byFirst := func(int) int { return 0 }
		nodes[0].eventually("clients", f.learns(0, all, func(k int) int { return k }))
		for i := 1; i < 4; i++ {
			nodes[i].eventually("reflected", f.learns(i, all, byFirst))
			nodes[i].eventually("converged", func(ev routing.PathEvent, _ []routing.SessionStatus) bool { return ev.Converged })
		}

		// The reflector crashes and comes back within its restart time.
		gone := errorLike("nodes.n1", "its routes are kept for its restart time")
		nodes[0].kill()
		for i := 1; i < 4; i++ {
			nodes[i].eventually("crash noticed", gone)
			nodes[i].lost = 0
			nodes[i].watchFor = f.learns(i, all, byFirst)
		}
		nodes[0] = f.child(t, 0)
		reflector()
		for i := 1; i < 4; i++ {
			nodes[i].eventually("back", established("nodes.n1"))
		}
		// A client that goes for good is withdrawn everywhere, which shows that
		// what the reflector says counts again.
		nodes[0].eventually("clients again", f.learns(0, all, func(k int) int { return k }))
		for i := 1; i < 4; i++ {
			if nodes[i].lost > 0 {
				t.Errorf("node n%d missed routes in %d events while the reflector restarted", i+1, nodes[i].lost)
			}
			nodes[i].watchFor = nil
		}
		nodes[3].set(routing.BGPConfig{})
		for i := 1; i < 3; i++ {
			nodes[i].eventually("without n4", f.learns(i, []int{0, 1, 2}, byFirst))
		}

		// And stays away: the routes go only then.
		died := time.Now()
		nodes[0].kill()
		for i := 1; i < 3; i++ {
			nodes[i].eventually("routes go", has())
		}
		if kept := time.Since(died); kept < f.restart-time.Second {
			t.Errorf("routes were kept for %s, the restart time is %s", kept, f.restart)
		}
	})
}

// TestReflectorsLimits: of a client only what is inside other nodes' Pod CIDRs
// is passed on, in both directions of knowing: a node that joins, and one that
// leaves.
func TestReflectorsLimits(t *testing.T) {
	testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) {
		f := newFabric(t, 20*time.Second)
		nodes := [3]*child{f.child(t, 0), f.child(t, 1), f.child(t, 2)}
		client := f.conf(1, []int{0}, nil)
		client.Advertisements = append(client.Advertisements,
			advertise("172.16.0.0/16", "192.0.2.2"), advertise("10.10.1.64/26", "192.0.2.2"), advertise("10.10.2.64/26", "192.0.2.2"))
		nodes[1].set(client)
		other := f.conf(2, []int{0}, nil)
		other.Scope.ClusterCIDRs = append(other.Scope.ClusterCIDRs, pfx("172.16.0.0/12"))
		other.Advertisements = nil
		nodes[2].set(other)
		reflector := f.conf(0, []int{1, 2}, []int{1, 2})
		reflector.Advertisements = nil
		known := reflector.Scope.ClusterCIDRs
		reflector.Scope.ClusterCIDRs = known[:2] // its own alone
		nodes[0].set(reflector)
		nodes[2].eventually("up", established("nodes.n1"))
		nodes[0].eventually("received", func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
			return len(ss) == 2 && ss[0].Families[0].Received == 4
		})
		nodes[2].eventually("nothing is passed on", has())

		reflector.Scope.ClusterCIDRs = known
		nodes[0].set(reflector)
		nodes[2].eventually("the node is known", has(
			route("10.10.2.0/24", "192.0.2.2", "nodes.n1"), route("10.10.2.64/26", "192.0.2.2", "nodes.n1"),
			route("fd10:0:0:2::/64", "2001:db8::2", "nodes.n1")))
		reflector.Scope.ClusterCIDRs = known[:2]
		nodes[0].set(reflector)
		nodes[2].eventually("the node is gone", has())
	})
}
