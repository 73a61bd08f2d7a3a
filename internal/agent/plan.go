// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/hostfw"
)

// World is everything that a node's plan depends on.
type World struct {
	Config *config.Config
	// Local is this node, Remotes are all others, as the API server has them.
	Local   routing.Node
	Remotes []routing.Node
	// ASN of this node.
	ASN   uint32
	Peers []routing.Peer
	// PeersIncomplete says that Peers leaves out some whose Secret could not be read.
	PeersIncomplete bool
	Advertisements  []routing.Advertisement
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
	// MTU of Pod interfaces and of the gateway, in bytes.
	MTU int
	// MTUWarning says why a configured MTU is not in force; may be empty.
	MTUWarning string
	Layout     vsdb.Layout
	// Gateways are the gateway's addresses with their networks.
	Gateways []netip.Prefix
	Paths    []routing.Path
	// Nodes are the remote nodes that the switch must know: all that have a
	// tunnel endpoint while there is a tunnel port. Sorted by name.
	Nodes  []RemoteNode
	Kernel routing.KernelState
	// KeepRoutes says that routes of ours that are not in Kernel stay: an
	// earlier run learned them, and the peers have not said all they know yet.
	KeepRoutes bool
	Firewall   hostfw.Ruleset
	BGP        routing.BGPConfig
}

// RemoteNode is a remote node with what is reached through the tunnel to it.
// The node's own addresses are among that, because in a fabric that does not
// carry Pod addresses it cannot answer a Pod in any other way.
type RemoteNode struct {
	Name string
	pipeline.NodeParams
}

// MakePlan decides what the node should be. It is pure. An error means that
// nothing can be planned; problems of single nodes or families are in
// Plan.Problems, and what they concern is left out.
func MakePlan(w World) (*Plan, error) {
	valid := routing.Validate(w.Local, w.Remotes, w.Links)
	p := &Plan{Local: valid.Local, Problems: valid.Problems}

	endpoints := map[string]encap.Endpoint{}
	remoteEnds := map[string]netip.Addr{}
	var peers [][]netip.Addr
	for _, n := range valid.Remotes {
		peers = append(peers, n.Addresses)
		if e, err := encap.SelectEndpoint(w.Config.Tunnel.Underlay, w.Local.Addresses, n.Addresses); err == nil {
			endpoints[n.Name], remoteEnds[n.Name] = e, e.Remote
		}
	}
	underlay := encap.UnderlayFamilies(w.Config.Tunnel.Underlay, w.Local.Addresses, peers)
	if err := p.planMTU(w, underlay); err != nil {
		return nil, err
	}
	for _, c := range valid.Local.PodCIDRs {
		p.Gateways = append(p.Gateways, netip.PrefixFrom(routing.GatewayOf(c), c.Bits()))
	}
	p.Paths = routing.DecidePaths(routing.Input{
		Mode:              w.Config.Mode,
		TrustDefaultRoute: w.Config.TrustDefaultRoute,
		Links:             w.Links,
		Remotes:           valid.Remotes,
		Learned:           w.Learned,
		TunnelEndpoints:   remoteEnds,
	})
	p.Layout = layout(w, p.MTU)
	if p.Layout.Tunnel != nil {
		p.Nodes = remoteNodes(p.Paths, valid.Remotes, endpoints)
	}
	tunnelMTU := w.Uplink.MTU
	for _, f := range underlay {
		tunnelMTU = min(tunnelMTU, encap.TunnelMTU(w.Uplink.MTU, f))
	}
	p.Kernel = routing.KernelRoutes(routing.KernelInput{
		Local:    valid.Local,
		Links:    w.Links,
		Underlay: w.Underlay,
		Paths:    p.Paths,
		Learned:  w.Learned,
		Gateway: routing.GatewayInterface{
			Name: vsdb.GatewayPort, MAC: pipeline.GatewayMAC(), TunnelMTU: min(p.MTU, tunnelMTU), Behind: serviceHops(),
		},
	})
	p.KeepRoutes = !w.Converged
	p.Firewall = firewall(w, valid)
	p.BGP = bgp(w, valid)
	return p, nil
}

func (p *Plan) planMTU(w World, underlay []routing.Family) error {
	var families []routing.Family
	for _, c := range p.Local.PodCIDRs {
		families = append(families, routing.FamilyOf(c.Addr()))
	}
	mtu, err := encap.PodMTU(encap.MTUParams{
		Mode:       w.Config.Mode,
		Uplink:     w.Uplink.MTU,
		Configured: w.Config.MTU,
		Underlay:   underlay,
		Pod:        families,
	})
	if err != nil && w.Config.MTU == 0 {
		return fmt.Errorf("MTU of uplink %s: %w", w.Uplink.Name, err)
	}
	if err != nil {
		p.MTUWarning = err.Error()
	}
	p.MTU = mtu
	return nil
}

// remoteNodes gathers the paths that are tunnels by node.
func remoteNodes(paths []routing.Path, remotes []routing.Node, endpoints map[string]encap.Endpoint) []RemoteNode {
	var out []RemoteNode
	for _, n := range remotes {
		endpoint, ok := endpoints[n.Name]
		if !ok {
			continue
		}
		node := RemoteNode{Name: n.Name, NodeParams: pipeline.NodeParams{Endpoint: endpoint}}
		for _, path := range paths {
			if path.Node != n.Name || path.Kind != routing.PathTunnel {
				continue
			}
			node.PodCIDRs = append(node.PodCIDRs, path.PodCIDR)
			if a := n.Address(path.Family); a.IsValid() {
				node.Addrs = append(node.Addrs, a)
			}
		}
		out = append(out, node)
	}
	slices.SortFunc(out, func(a, b RemoteNode) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func layout(w World, mtu int) vsdb.Layout {
	l := vsdb.Layout{
		Datapath:   vsdb.DatapathSystem,
		GatewayMAC: pipeline.GatewayMAC(),
		MTU:        mtu,
	}
	if w.Config.Mode != routing.ModeNoEncap {
		l.Tunnel = &vsdb.Tunnel{Type: w.Config.Tunnel.Type, Port: w.Config.Tunnel.Port}
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

func bgp(w World, valid routing.Validation) routing.BGPConfig {
	if !w.Config.BGP.Enabled {
		return routing.BGPConfig{}
	}
	scope := routing.ImportScope{Local: valid.Local, Links: w.Links}
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
		Peers:          w.Peers,
		Incomplete:     w.PeersIncomplete,
		Advertisements: advertised(w.Advertisements, valid.Local),
		Scope:          scope,
	}
}

// advertised leaves out the prefixes of Pod CIDRs that were found bad.
func advertised(ads []routing.Advertisement, local routing.Node) []routing.Advertisement {
	return slices.DeleteFunc(slices.Clone(ads), func(a routing.Advertisement) bool {
		return !slices.Contains(local.PodCIDRs, a.Prefix)
	})
}
