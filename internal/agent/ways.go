// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/rollout"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing"
)

// way is how traffic would travel if a configuration were all there is.
type way struct {
	traffic   config.Traffic
	endpoints map[string]encap.Endpoint
	paths     []routing.Path
	// routed are the paths that mode auto takes if they work.
	routed []routing.Path
	// mtu is that of Pod interfaces in bytes, warning why it is not the configured
	// one; tunnelMTU is the largest packet that fits the tunnel.
	mtu       int
	warning   string
	tunnelMTU int
}

func (w World) way(t config.Traffic, valid routing.Validation) (way, error) {
	y := way{traffic: t, endpoints: map[string]encap.Endpoint{}, tunnelMTU: w.Uplink.MTU}
	remoteEnds := map[string]netip.Addr{}
	var peers [][]netip.Addr
	for _, n := range valid.Remotes {
		peers = append(peers, n.Addresses)
		if e, err := encap.SelectEndpoint(t.Tunnel.Underlay, w.Local.Addresses, n.Addresses); err == nil {
			y.endpoints[n.Name], remoteEnds[n.Name] = e, e.Remote
		}
	}
	underlay := encap.UnderlayFamilies(t.Tunnel.Underlay, w.Local.Addresses, peers)
	for _, f := range underlay {
		y.tunnelMTU = min(y.tunnelMTU, encap.TunnelMTU(w.Uplink.MTU, f))
	}
	var families []routing.Family
	for _, c := range valid.Local.PodCIDRs {
		families = append(families, routing.FamilyOf(c.Addr()))
	}
	mtu, err := encap.PodMTU(encap.MTUParams{Mode: t.Mode, Uplink: w.Uplink.MTU, Configured: t.MTU, Underlay: underlay, Pod: families})
	if err != nil && t.MTU == 0 {
		return way{}, fmt.Errorf("MTU of uplink %s: %w", w.Uplink.Name, err)
	}
	if err != nil {
		y.warning = err.Error()
	}
	y.mtu = mtu
	var aggregates []netip.Prefix
	if t.BGP {
		aggregates = w.aggregates(valid)
	}
	in := routing.Input{
		Aggregates:        aggregates,
		Mode:              t.Mode,
		TrustDefaultRoute: t.TrustDefaultRoute,
		Links:             w.Links,
		Remotes:           valid.Remotes,
		Learned:           w.Learned,
		TunnelEndpoints:   remoteEnds,
		Proofs:            w.Proofs,
	}
	y.paths = routing.DecidePaths(in)
	if t.Mode == routing.ModeAuto {
		y.routed = routing.RoutedPaths(in)
	}
	return y, nil
}

// ways are those that the node accepts and sends by.
type ways struct {
	// to is the one that is in force, or will be.
	to way
	// from is the one before, while a rollout leads from it; else the same.
	from way
	// accepted are those of them by which packets may come.
	accepted []way
	// sendsNew tells by which of them packets to a node go.
	sendsNew func(node string) bool
	// mtu is the largest packet that Pods must be able to get, sendMTU the largest
	// that they may send.
	mtu, sendMTU int
	// refused is why there is no way to what a rollout leads to: all is as before.
	refused error
}

func (w World) ways(valid routing.Validation) (ways, error) {
	r := w.Rollout
	to, err := w.way(w.Config.Traffic(), valid)
	var refused error
	if err != nil && r != nil && r.From != r.To && r.Phase == rollout.Prepare {
		// Nobody sends by it yet. Pods and nodes come and go meanwhile.
		refused = err
		to, err = w.way(r.From, valid)
	}
	if err != nil {
		return ways{}, err
	}
	out := ways{
		to: to, from: to, accepted: []way{to}, sendsNew: func(string) bool { return true }, mtu: to.mtu, sendMTU: to.mtu, refused: refused,
	}
	if refused != nil || r == nil || r.From == r.To {
		return out, nil
	}
	if out.from, err = w.way(r.From, valid); err != nil {
		return ways{}, err
	}
	out.sendsNew = r.SendsNew
	if r.Narrow() {
		out.sendMTU = min(out.mtu, out.from.mtu)
	}
	if len(r.Accepts()) > 1 {
		out.accepted = append(out.accepted, out.from)
		out.mtu = max(out.mtu, out.from.mtu)
	}
	return out, nil
}

// paths are those by which packets go.
func (y ways) paths() []routing.Path {
	out := make([]routing.Path, 0, len(y.to.paths))
	for i, path := range y.to.paths {
		if !y.sendsNew(path.Node) {
			path = y.from.paths[i] // both are of the same Pod CIDRs, in the same order
		}
		out = append(out, path)
	}
	return out
}

// routed are the paths that are to be probed. They depend on no more than the routes
// that there are, so they are the same in each way that asks for it.
func (y ways) routed() []routing.Path {
	for _, one := range y.accepted {
		if one.routed != nil {
			return one.routed
		}
	}
	return nil
}

// tunnels are those of which packets are accepted.
func (y ways) tunnels() []vsdb.Tunnel {
	var out []vsdb.Tunnel
	for _, one := range y.accepted {
		t := one.tunnel()
		known := slices.ContainsFunc(out, func(o vsdb.Tunnel) bool { return o.PortName() == t.PortName() })
		if one.traffic.UsesTunnel() && !known {
			out = append(out, t)
		}
	}
	return out
}

func (y way) tunnel() vsdb.Tunnel {
	return vsdb.Tunnel{Type: y.traffic.Tunnel.Type, Port: y.traffic.Tunnel.Port}
}

// endpoints are the ends of all tunnels that may be used, without repetitions.
func (y ways) endpoints() []encap.Endpoint {
	var out []encap.Endpoint
	for _, one := range y.accepted {
		if !one.traffic.UsesTunnel() {
			continue
		}
		for _, e := range one.endpoints {
			if !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	slices.SortFunc(out, func(a, b encap.Endpoint) int { return cmp.Or(a.Remote.Compare(b.Remote), a.Local.Compare(b.Local)) })
	return out
}

// bgp says whether the node is to speak BGP.
func (y ways) bgp() bool {
	return slices.ContainsFunc(y.accepted, func(one way) bool { return one.traffic.BGP })
}

// nodes are the remote nodes from whose tunnels packets are accepted, with what is
// sent into one. Sorted by name.
func (y ways) nodes(remotes []routing.Node) []RemoteNode {
	var out []RemoteNode
	for _, n := range remotes {
		node := RemoteNode{Name: n.Name}
		for _, one := range y.accepted {
			e, ok := one.endpoints[n.Name]
			if ok && one.traffic.UsesTunnel() && !slices.Contains(node.Sources, e.Remote) {
				node.Sources = append(node.Sources, e.Remote)
			}
		}
		if len(node.Sources) == 0 {
			continue
		}
		sender := y.from
		if y.sendsNew(n.Name) {
			sender = y.to
		}
		node.send(n, sender)
		out = append(out, node)
	}
	slices.SortFunc(out, func(a, b RemoteNode) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// send has the node's paths that are tunnels of a way used.
func (r *RemoteNode) send(n routing.Node, by way) {
	for _, path := range by.paths {
		if path.Node != n.Name || path.Kind != routing.PathTunnel {
			continue
		}
		r.Tunnel, r.Endpoint = by.tunnel(), by.endpoints[n.Name]
		r.PodCIDRs = append(r.PodCIDRs, path.PodCIDR)
		if a := n.Address(path.Family); a.IsValid() {
			r.Addrs = append(r.Addrs, a)
		}
	}
}

// lost are the Pod CIDRs to which there is no path, in words.
func lost(paths []routing.Path) []string {
	var out []string
	for _, path := range paths {
		if path.Kind == routing.PathNone {
			out = append(out, fmt.Sprintf("%s (node %s): %s", path.PodCIDR, path.Node, path.Reason))
		}
	}
	slices.Sort(out)
	return out
}
