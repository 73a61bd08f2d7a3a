// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/drain"
	"github.com/waymark-net/waymark/internal/rollout"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/ovs/router"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/hostfw"
	"github.com/waymark-net/waymark/routing/probe"
)

// World is everything that a node's plan depends on.
type World struct {
	Config *config.Config
	// Rollout is the one in force, nil if there is none. Config has the traffic that
	// it leads to.
	Rollout *rollout.Rollout
	// Local is this node, Remotes are all others, as the API server has them.
	Local   routing.Node
	Remotes []routing.Node
	// ASN of this node.
	ASN   uint32
	Peers []routing.Peer
	// PeersIncomplete says that Peers leaves out some whose Secret could not be read.
	PeersIncomplete bool
	Advertisements  []routing.Advertisement
	// ServiceAdvertisements are of addresses of Services that the node serves, and
	// ServiceAddresses all addresses of Services.
	ServiceAdvertisements []routing.Advertisement
	ServiceAddresses      []netip.Addr
	// Drain is how far the node is on its way out.
	Drain drain.Phase
	// Aggregates are the networks that nodes announce which are not their own as
	// a whole.
	Aggregates []netip.Prefix
	// Uplink is the interface that leads to the other nodes.
	Uplink Uplink
	// Links are all interfaces that lead out of the node, the uplink included,
	// and Underlay the routes there that are not ours.
	Links    []routing.Link
	Underlay []routing.Route
	// Learned are the routes accepted from BGP peers.
	Learned []routing.LearnedRoute
	// Converged says that Learned is all that the peers know, and not what they
	// have said so far.
	Converged bool
	// Proofs are what probes found of routed paths, and Assumed those that were in use
	// when the agent started.
	Proofs  map[routing.ProofKey]routing.Proof
	Assumed map[routing.ProofKey]bool
}

// Uplink is what a plan needs to know of the node's uplink.
type Uplink struct {
	// Name of the interface that holds the node's addresses.
	Name string
	// NIC is the name of the network interface itself; it differs from Name
	// when the addresses have moved to a bridge.
	NIC string
	MAC net.HardwareAddr
	// MTU in bytes, of the interface and of the path behind it.
	MTU int
}

// Plan is what a node should be. It is made anew as a whole and never changed.
type Plan struct {
	Local    routing.Node
	Problems []routing.Problem
	// MTU of Pod interfaces in bytes; SendMTU is what Pods may send, which is less in
	// the course of a rollout. SwitchMTU is that of the gateway and of the hosts' ends
	// of the Pods' links: it does not change with them, see podlink.Link.HostMTU.
	MTU, SendMTU, SwitchMTU int
	// MTUWarning says why a configured MTU is not in force; may be empty.
	MTUWarning string
	Layout     vsdb.Layout
	// Gateways are the gateway's addresses. Routes lead to the Pods behind it.
	Gateways []netip.Prefix
	Paths    []routing.Path
	// Loses says in words to which Pod CIDRs there is no path, or would be none by
	// what a rollout leads to.
	Loses []string
	// Nodes are the remote nodes that the switch must know: all that have a
	// tunnel endpoint while there is a tunnel port. Sorted by name.
	Nodes  []RemoteNode
	Kernel routing.KernelState
	// KeepRoutes says that routes of ours that are not in Kernel stay: an
	// earlier run learned them, and the peers have not said all they know yet.
	KeepRoutes bool
	// TunnelRoutes lead a switch in userspace to the far ends of tunnels.
	TunnelRoutes []router.Route
	Firewall     hostfw.Ruleset
	BGP          routing.BGPConfig
	// Probes find out which routed paths work.
	Probes probe.Config
	// Refused is why the node cannot do what a rollout leads to. The plan is then that
	// of before.
	Refused error
	// NotAnnounced are the addresses of Services that are somebody else's.
	NotAnnounced []netip.Addr
}

// RemoteNode is a remote node with what is reached through the tunnel to it.
// The node's own addresses are among that, because in a fabric that does not
// carry Pod addresses it cannot answer a Pod in any other way.
type RemoteNode struct {
	Name string
	// Tunnel is the one to the node, if anything goes into one. NodeParams lack the
	// number of its port, which only the switch knows.
	Tunnel vsdb.Tunnel
	pipeline.NodeParams
}

// MakePlan decides what the node should be. It is pure. An error means that
// nothing can be planned; problems of single nodes or families are in
// Plan.Problems, and what they concern is left out.
func MakePlan(w World) (*Plan, error) {
	valid := routing.Validate(w.Local, w.Remotes, w.Links)
	p := &Plan{Local: valid.Local, Problems: valid.Problems}
	ways, err := w.ways(valid)
	if err != nil {
		return nil, err
	}
	p.Refused = ways.refused
	p.MTU, p.SendMTU, p.SwitchMTU, p.MTUWarning = ways.mtu, ways.sendMTU, w.Uplink.MTU, ways.to.warning
	for _, c := range valid.Local.PodCIDRs {
		gateway := routing.GatewayOf(c)
		p.Gateways = append(p.Gateways, netip.PrefixFrom(gateway, gateway.BitLen()))
	}
	p.Paths = ways.paths()
	p.Loses = lost(ways.to.paths)
	p.Layout = layout(w, p.SwitchMTU, ways.tunnels())
	p.Nodes = ways.nodes(valid.Remotes)
	p.TunnelRoutes = tunnelRoutes(w, ways.endpoints())
	var aggregates []netip.Prefix
	if ways.bgp() {
		aggregates = w.aggregates(valid)
	}
	routed := ways.routed()
	p.Probes = probing(w, valid, routed, p.SendMTU)
	p.Kernel = routing.KernelRoutes(routing.KernelInput{
		Aggregates: aggregates,
		Probed:     routed,
		Local:      valid.Local,
		Links:      w.Links,
		Underlay:   w.Underlay,
		Paths:      p.Paths,
		Learned:    w.Learned,
		MTU:        p.routedMTU(),
		Gateway: routing.GatewayInterface{
			Name: vsdb.GatewayPort, MAC: pipeline.GatewayMAC(), Behind: serviceHops(), PodMTU: p.MTU,
			TunnelMTU: min(p.SendMTU, ways.to.tunnelMTU, ways.from.tunnelMTU),
		},
	})
	p.KeepRoutes = !w.Converged
	p.Firewall = firewall(w, valid)
	p.BGP = bgp(w, valid, ways.bgp())
	p.announceServices(w)
	if ways.bgp() {
		p.Problems = append(p.Problems, w.badAggregates(valid)...)
	}
	return p, nil
}

// routedMTU is the largest packet that the node may send to Pods by routes, 0: what
// the interface takes.
func (p *Plan) routedMTU() int {
	if p.SendMTU < p.MTU {
		return p.SendMTU
	}
	return 0
}

func layout(w World, mtu int, tunnels []vsdb.Tunnel) vsdb.Layout {
	l := vsdb.Layout{
		Datapath:   vsdb.DatapathSystem,
		GatewayMAC: pipeline.GatewayMAC(),
		MTU:        mtu,
		Tunnels:    tunnels,
	}
	if w.Config.Datapath == config.DatapathNetdev {
		l.Datapath = vsdb.DatapathNetdev
		l.Uplink = &vsdb.Uplink{Name: w.Uplink.NIC, MAC: w.Uplink.MAC}
	}
	return l
}

func firewall(w World, valid routing.Validation) hostfw.Ruleset {
	r := hostfw.Ruleset{
		Gateway:            vsdb.GatewayPort,
		SNAT:               hostfw.SNAT(w.Config.SNAT),
		LocalPodCIDRs:      valid.Local.PodCIDRs,
		NonMasqueradeCIDRs: w.Config.NonMasqueradeCIDRs,
	}
	for _, n := range append([]routing.Node{valid.Local}, valid.Remotes...) {
		r.ClusterPodCIDRs = append(r.ClusterPodCIDRs, n.PodCIDRs...)
		r.NodeAddresses = append(r.NodeAddresses, n.Addresses...)
	}
	if w.Config.Datapath == config.DatapathNetdev {
		r.SwitchedNICs = []string{w.Uplink.NIC}
	}
	return r
}

func bgp(w World, valid routing.Validation, enabled bool) routing.BGPConfig {
	if !enabled {
		return routing.BGPConfig{}
	}
	scope := routing.ImportScope{
		Local: valid.Local, Links: w.Links, Aggregates: w.Aggregates, OwnAggregates: w.aggregates(valid),
		ServiceAddresses: w.ServiceAddresses,
	}
	for _, n := range append([]routing.Node{valid.Local}, valid.Remotes...) {
		scope.ClusterCIDRs = append(scope.ClusterCIDRs, n.PodCIDRs...)
		scope.NodeAddresses = append(scope.NodeAddresses, n.Addresses...)
	}
	return routing.BGPConfig{
		Speaker: routing.SpeakerConfig{
			ASN:        w.ASN,
			RouterID:   routing.RouterIDOf(w.Local),
			ListenPort: w.Config.BGP.ListenPort,
			GracefulRestart: routing.GracefulRestart{
				Enabled:     w.Config.BGP.GracefulRestart.Enabled,
				RestartTime: w.Config.BGP.GracefulRestart.RestartTime,
			},
			MaximumPaths: w.Config.BGP.MaximumPaths,
		},
		Peers:          peers(w),
		Incomplete:     w.PeersIncomplete,
		Advertisements: advertised(w.Advertisements, append(w.aggregates(valid), valid.Local.PodCIDRs...)),
		Scope:          scope,
	}
}

// peers are the node's with what BFD must know of the way to each.
func peers(w World) []routing.Peer {
	out := slices.Clone(w.Peers)
	for i, p := range out {
		if p.BFD != nil {
			b := *p.BFD
			b.Multihop = routing.BFDMultihop(p, w.ASN, w.Links)
			out[i].BFD = &b
		}
	}
	return out
}

// announceServices announces addresses of Services as far as the node is not on its
// way out. An address of a node or a Pod stays theirs, whatever a Service says.
func (p *Plan) announceServices(w World) {
	if len(p.BGP.Peers) == 0 || w.Drain == drain.Withdrawn {
		return
	}
	filter := routing.NewImportFilter(p.BGP.Scope)
	for _, a := range w.ServiceAdvertisements {
		if !filter.Foreign(a.Prefix.Addr()) {
			p.NotAnnounced = append(p.NotAnnounced, a.Prefix.Addr())
			continue
		}
		if a.Prefix.Addr().Is6() && !p.Local.Address(routing.IPv6).IsValid() {
			continue // nothing can be its next hop
		}
		a.GracefulShutdown = w.Drain == drain.Leaving
		p.BGP.Advertisements = append(p.BGP.Advertisements, a)
	}
	p.NotAnnounced = slices.Compact(p.NotAnnounced)
}

// advertised leaves out the prefixes that are not good, of Pod CIDRs that were
// found bad or of aggregates, and then what aggregates stand for.
func advertised(ads []routing.Advertisement, good []netip.Prefix) []routing.Advertisement {
	return routing.Summarize(slices.DeleteFunc(slices.Clone(ads), func(a routing.Advertisement) bool {
		return !slices.Contains(good, a.Prefix)
	}))
}
