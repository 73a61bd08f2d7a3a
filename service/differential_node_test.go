// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/service"
	"github.com/waymark-net/waymark/service/naive"
	"github.com/waymark-net/waymark/service/random"
)

var (
	addrs     = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	addrPorts = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
)

// Ports of the switch. The Pods follow.
const (
	gatewayPort uint32 = 1
	tunnelPort  uint32 = 2
	firstPod    uint32 = 11
)

// serviceAddrs are the node's Service addresses, the second ones of its Pod
// CIDRs.
var serviceAddrs = []netip.Addr{random.Gateways[0].Next(), random.Gateways[1].Next()}

// tunnel is that to TunnelNode.
var tunnel = encap.Endpoint{Local: netip.MustParseAddr("192.0.2.1"), Remote: netip.MustParseAddr("192.0.2.101")}

func macOf(port uint32) net.HardwareAddr {
	if port < firstPod {
		return pipeline.GatewayMAC()
	}
	return net.HardwareAddr{0x0e, 0, 0, 0, 0, byte(port)}
}

// node is a node with a compiler and a fake switch that does what it says.
type node struct {
	compiler *service.Compiler
	sw       *ovstest.Switch
	// beside, which may be nil, is told what the switch is told.
	beside  flowTable
	cluster naive.Cluster
	count   *tally
	// held are the flows and groups of every owner that has some.
	held map[string]string
	// told is what the host was told last.
	told    service.Host
	aliases map[netip.Addr]netip.Addr
	// open are connections that go on.
	open []connection
	// kept is what the switch learned of clients that keep their endpoint, and
	// learned all that it has learned, by match.
	kept    map[client]*keeping
	learned map[string]openflow.LearnedFlow
	// nextPort is the port of the next client; there is no second one.
	nextPort uint16
	// bucket is which one the switch takes of a group, group the last one that it
	// took one of.
	bucket int
	group  flow.Group
	random *rand.Rand
}

// connection is one that was begun.
type connection struct {
	first    naive.Packet
	set      naive.Set
	endpoint naive.Endpoint
}

func newNode(seed uint64, count *tally) (*node, error) {
	n := &node{
		compiler: service.New(), cluster: newCluster(), count: count, random: rand.New(rand.NewPCG(seed, 6)), nextPort: 20000,
		held: map[string]string{}, aliases: map[netip.Addr]netip.Addr{},
		kept: map[client]*keeping{}, learned: map[string]openflow.LearnedFlow{},
	}
	var tables []uint8
	for _, tb := range pipeline.Tables() {
		if !slices.Contains(pipeline.LearnedTables(), tb.ID) {
			tables = append(tables, tb.ID)
		}
	}
	n.sw = ovstest.NewSwitch(ovstest.SwitchParams{Tables: tables, Learned: pipeline.LearnedTables()})
	n.sw.Choose(func(g flow.Group, _ ovstest.Packet) int {
		n.group = g
		return n.bucket % len(g.Buckets)
	})
	n.cluster.Alias = n.alias
	n.compiler.SetNode(n.cluster.Node)
	return n, n.sw.Update(baseOwner, nodeFlows(), nil)
}

// baseOwner has what does not depend on Services.
const baseOwner = "node"

// nodeFlows are those of a node with its Pods and a tunnel.
var nodeFlows = sync.OnceValue(func() []flow.Flow {
	flows := slices.Concat(pipeline.Base(), pipeline.Gateway(pipeline.GatewayParams{
		Port: gatewayPort, TunnelPorts: []uint32{tunnelPort}, Addrs: random.Gateways, NodeAddrs: random.NodeAddrs,
		Services: true, ServiceAddrs: serviceAddrs,
	}), pipeline.Node(pipeline.NodeParams{Sources: []netip.Addr{tunnel.Remote}, TunnelPort: tunnelPort, Endpoint: tunnel, PodCIDRs: random.TunnelCIDRs}))
	for i, addrs := range random.Pods {
		port := firstPod + uint32(i)
		flows = append(flows, pipeline.Pod(pipeline.PodPort{Port: port, MAC: macOf(port), Addrs: addrs})...)
	}
	return flows
})

// alias is what the host was told of the alias of an address.
func (n *node) alias(a netip.Addr) netip.Addr {
	return n.aliases[a]
}

// step makes changes and has the switch follow.
func (n *node) step(step random.Step) error {
	states := []naive.Cluster{n.state()}
	for _, change := range step {
		change.Apply(&n.cluster)
		change.Tell(n.compiler)
		states = append(states, n.state())
	}
	var forgotten []service.Connection
	seen := map[string]bool{}
	updates := slices.Collect(n.compiler.Flush())
	for _, d := range updates {
		if err := n.proper(d, states, seen); err != nil {
			return fmt.Errorf("%s: %w", d.Key, err)
		}
		if n.held[d.Owner] = lines(d); d.Gone {
			delete(n.held, d.Owner)
		}
		forgotten = append(forgotten, d.Forget...)
	}
	if err := n.send(updates); err != nil {
		return err
	}
	if again := slices.Collect(n.compiler.Flush()); len(again) > 0 {
		return fmt.Errorf("%s changes without a change", again[0].Key)
	}
	told, changed := n.compiler.Host()
	if _, again := n.compiler.Host(); again || !changed && !cmp.Equal(told, n.told, addrs, addrPorts) {
		return fmt.Errorf("the host: changed %t, then %t:\n%s", changed, again, cmp.Diff(n.told, told, addrs, addrPorts))
	}
	n.told = told
	for _, a := range told.Aliases {
		n.aliases[a.At.Addr()] = a.To
	}
	n.forgetAffinity()
	if err := n.checkForgotten(states, forgotten); err != nil {
		return err
	}
	return n.goOn()
}

// flowTable is what flows and groups are handed to.
type flowTable interface {
	Update(owner string, flows []flow.Flow, groups []flow.Group) error
	Delete(owner string)
}

// send hands what changed to the switch.
func (n *node) send(changed []service.Desired) error {
	if n.beside != nil {
		if err := sendTo(n.beside, changed); err != nil {
			return err
		}
	}
	return sendTo(n.sw, changed)
}

// sendTo hands on what changed. Who wants what another still has gives up what it
// has first.
func sendTo(to flowTable, changed []service.Desired) error {
	var again []service.Desired
	for _, d := range changed {
		if d.Gone {
			to.Delete(d.Owner)
		} else if to.Update(d.Owner, d.Flows, d.Groups) != nil {
			to.Delete(d.Owner)
			again = append(again, d)
		}
	}
	for _, d := range again {
		if err := to.Update(d.Owner, d.Flows, d.Groups); err != nil {
			return err
		}
	}
	return nil
}

// state is a copy of the cluster.
func (n *node) state() naive.Cluster {
	c := n.cluster
	c.Services = maps.Clone(c.Services)
	return c
}

// proper reports what is wrong with what is said of one Service.
func (n *node) proper(d service.Desired, states []naive.Cluster, seen map[string]bool) error {
	if d.Owner != pipeline.OwnerService(d.Key.Namespace, d.Key.Name) || seen[d.Owner] {
		return fmt.Errorf("owner %q is wrong or named twice", d.Owner)
	}
	seen[d.Owner] = true
	was, held := n.held[d.Owner]
	s, exists := n.cluster.Services[d.Key]
	if d.Gone == exists {
		return fmt.Errorf("gone: %t, exists: %t", d.Gone, exists)
	}
	same := held && !d.Gone && len(d.Forget) == 0 && was == lines(d)
	// After several changes it may be again what it was.
	before := states[0]
	if old, had := before.Services[d.Key]; same && had && old.Equal(s) && nodesEqual(before.Node, n.cluster.Node) && len(states) == 2 {
		return fmt.Errorf("is named, but nothing changed")
	}
	return nil
}

// lines is the flows and groups, whatever their order.
func lines(d service.Desired) string {
	var lines []string
	for _, f := range d.Flows {
		lines = append(lines, f.String())
	}
	for _, g := range d.Groups {
		lines = append(lines, g.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func nodesEqual(a, b service.Node) bool {
	return a.Name == b.Name && a.Zone == b.Zone && slices.Equal(a.Addrs, b.Addrs)
}

// checkForgotten holds what was said to be forgotten against what went at each
// of some changes: no connection to an endpoint that goes on, every one to one
// that does not.
func (n *node) checkForgotten(states []naive.Cluster, forgotten []service.Connection) error {
	n.count.forgotten.Add(int64(len(forgotten)))
	named := map[service.Connection]bool{}
	for _, c := range forgotten {
		named[c] = true
	}
	due, may := map[service.Connection]bool{}, map[service.Connection]bool{}
	for i, before := range states[:len(states)-1] {
		lapsed(due, before, states[i+1], naive.Cluster.Frontends)
		for f := range served(before, before.Frontends()) {
			delete(due, service.Connection{Protocol: f.Protocol, Frontend: f.At})
		}
		// A Service that had the frontend once may have connections there.
		lapsed(may, before, states[i+1], naive.Cluster.Claims)
	}
	// Who has the frontend now may have the same endpoint, or no business with what
	// was there.
	now := map[service.Connection]naive.Frontend{}
	for _, f := range n.cluster.Frontends() {
		now[service.Connection{Protocol: f.Protocol, Frontend: f.At}] = f
	}
	serves := map[service.Connection]bool{}
	for f := range served(n.cluster, n.cluster.Frontends()) {
		serves[service.Connection{Protocol: f.Protocol, Frontend: f.At}] = true
	}
	for c := range due {
		f := now[service.Connection{Protocol: c.Protocol, Frontend: c.Frontend}]
		_, has := now[service.Connection{Protocol: c.Protocol, Frontend: c.Frontend}]
		if !named[c] && (c.Endpoint.IsValid() || serves[c] || !has) && !n.cluster.Alive(f.Key, f.Protocol, f.Port, c.Endpoint) {
			return fmt.Errorf("%v is not to be forgotten", c)
		}
	}
	known := map[netip.Addr]bool{} // an address that came and went has one that nobody heard of
	for _, alias := range n.aliases {
		known[alias] = true
	}
	for c := range named {
		// Where nobody has a frontend nothing can go on.
		if _, has := now[service.Connection{Protocol: c.Protocol, Frontend: c.Frontend}]; !has && !c.Endpoint.IsValid() {
			continue
		}
		if f := c.Frontend.Addr(); !may[c] && (known[f] || !pipeline.Aliases4.Contains(f) && !pipeline.Aliases6.Contains(f)) {
			return fmt.Errorf("%v is to be forgotten, and nothing went", c)
		}
	}
	for _, c := range n.open {
		at := service.Connection{Protocol: c.first.Protocol, Frontend: c.first.Destination, Endpoint: c.endpoint.AddrPort}
		if (named[at] || named[service.Connection{Protocol: at.Protocol, Frontend: at.Frontend}]) && n.mustGoOn(c, states) {
			return fmt.Errorf("%s, to %s of %s, is to be forgotten, and its endpoint stays", c.first, c.endpoint, c.set.Key)
		}
	}
	n.open = slices.DeleteFunc(n.open, func(c connection) bool {
		return named[service.Connection{Protocol: c.first.Protocol, Frontend: c.first.Destination, Endpoint: c.endpoint.AddrPort}]
	})
	return nil
}

// mustGoOn reports whether the Service of a connection had its frontend and its
// endpoint all the time. A frontend of UDP that was without endpoints to choose
// begins anew, also for those whose endpoint was there.
func (n *node) mustGoOn(c connection, states []naive.Cluster) bool {
	return !slices.ContainsFunc(states, func(s naive.Cluster) bool {
		return !s.Alive(c.set.Key, c.set.Protocol, c.set.Port, c.endpoint.AddrPort) ||
			!slices.ContainsFunc(s.Frontends(), func(f naive.Frontend) bool {
				if f.Key != c.set.Key || f.Protocol != c.first.Protocol || f.At != c.first.Destination {
					return false
				}
				return f.Protocol != service.UDP || len(served(s, []naive.Frontend{f})) > 0
			})
	})
}

// lapsed adds the connections that cannot go on after a change: those to
// endpoints that are not alive any more, and of UDP what came to a frontend
// before it was served, whatever its end.
func lapsed(due map[service.Connection]bool, before, after naive.Cluster, list func(naive.Cluster) []naive.Frontend) {
	for _, f := range list(before) {
		// Of a Service that is deleted TCP may as well end by itself.
		if _, exists := after.Services[f.Key]; !exists {
			continue
		}
		for _, e := range portOf(before.Services[f.Key], f).Endpoints {
			if e.Addr().Is4() == f.At.Addr().Is4() && before.Alive(f.Key, f.Protocol, f.Port, e.AddrPort) &&
				!after.Alive(f.Key, f.Protocol, f.Port, e.AddrPort) {
				due[service.Connection{Protocol: f.Protocol, Frontend: f.At, Endpoint: e.AddrPort}] = true
			}
		}
	}
	// UDP that came to a frontend which nobody has any more would never end.
	left := map[netip.AddrPort]bool{}
	for _, f := range list(after) {
		left[f.At] = left[f.At] || f.Protocol == service.UDP
	}
	for f := range served(before, list(before)) {
		if f.Protocol == service.UDP && !left[f.At] {
			due[service.Connection{Protocol: f.Protocol, Frontend: f.At}] = true
		}
	}
	// Who gets a frontend from another has nothing to do with what was there.
	was := served(before, before.Claims())
	for f := range served(after, list(after)) {
		if _, old := was[f]; !old && f.Protocol == service.UDP {
			due[service.Connection{Protocol: f.Protocol, Frontend: f.At}] = true
		}
	}
}

// served are the frontends that have endpoints, for some clients at least.
// Whichever port they lead to, they are the same.
func served(c naive.Cluster, list []naive.Frontend) map[naive.Frontend]naive.Frontend {
	out := map[naive.Frontend]naive.Frontend{}
	for _, f := range list {
		s := c.Services[f.Key]
		if endpoints, _ := c.ClusterEndpoints(s, portOf(s, f), f.At.Addr().Is4()); len(endpoints) > 0 {
			any := f
			any.Port = 0
			out[any] = f
		}
	}
	return out
}

// portOf is the port of a Service that a frontend leads to.
func portOf(s service.Service, f naive.Frontend) service.Port {
	i := slices.IndexFunc(s.Ports, func(p service.Port) bool { return p.Protocol == f.Protocol && p.Port == f.Port })
	return s.Ports[i]
}

// host holds what the host is told against what naive says.
func (n *node) host() error {
	// The order is the compiler's; it is the same for the same Services.
	told := service.Host{
		Routes:       slices.SortedFunc(slices.Values(n.told.Routes), netip.Addr.Compare),
		NodePorts:    slices.SortedFunc(slices.Values(n.told.NodePorts), naive.CompareNodePorts),
		Aliases:      slices.SortedFunc(slices.Values(n.told.Aliases), naive.CompareAliases),
		HealthChecks: slices.SortedFunc(slices.Values(n.told.HealthChecks), naive.CompareHealthChecks),
		Announced:    slices.SortedFunc(slices.Values(n.told.Announced), naive.CompareAnnouncements),
		Addrs:        n.told.Addrs,
	}
	if d := cmp.Diff(n.cluster.Host(), told, addrs, addrPorts); d != "" {
		return fmt.Errorf("the host (-want +got):\n%s", d)
	}
	return nil
}
