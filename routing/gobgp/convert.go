// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/waymark-net/waymark/routing"
)

const (
	// prefixLimit is the number of received routes of a family above which
	// the session is ended to bound the agent's memory, at about 2 kB a route.
	// GoBGP's own limit is not used: it counts all routes again at each UPDATE.
	prefixLimit = 150_000
	// prefixLimitRest is how long such a session rests.
	prefixLimitRest = 5 * time.Minute
	// deferralTime bounds the wait of a restarting speaker for the End-of-RIB
	// of all peers, in seconds (Selection_Deferral_Timer of RFC 4724).
	deferralTime = 5
	// allowOwnAS is more than any AS path has: see the package documentation.
	allowOwnAS = 255
	// idleAfterReset replaces GoBGP's 30 s, in seconds.
	idleAfterReset = 5

	// pathsAtOnce bounds how long the speaker does nothing but take our paths.
	pathsAtOnce = 256

	defaultHold         = 90 * time.Second
	defaultConnectRetry = 10 * time.Second
	defaultRestartTime  = 120 * time.Second
	maxRestartTime      = 4095 * time.Second
	defaultLocalPref    = 100
)

// families of a peer, in listing order.
func families(p routing.Peer) []routing.Family {
	if len(p.Families) == 0 {
		return routing.Families()
	}
	out := slices.Clone(p.Families)
	slices.Sort(out)
	return slices.Compact(out)
}

func gracefulRestart(c routing.SpeakerConfig, p routing.Peer) routing.GracefulRestart {
	gr := c.GracefulRestart
	if p.GracefulRestart != nil {
		gr = *p.GracefulRestart
	}
	if gr.RestartTime <= 0 {
		gr.RestartTime = defaultRestartTime
	}
	gr.RestartTime = min(gr.RestartTime, maxRestartTime)
	return gr
}

func localASN(c routing.SpeakerConfig, p routing.Peer) uint32 {
	if p.LocalASN != 0 {
		return p.LocalASN
	}
	return c.ASN
}

// checkPeer returns what is wrong with a peer.
func checkPeer(c routing.SpeakerConfig, p routing.Peer) error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case !p.Address.IsValid() || p.Address.IsUnspecified() || p.Address.IsMulticast() || p.Address.Is4In6():
		add("address %s is not a unicast address", p.Address)
	case p.Address.IsLinkLocalUnicast():
		add("address %s is link-local, which is not supported", p.Address)
	}
	if p.ASN == 0 {
		add("ASN is 0")
	}
	if p.SourceAddress.IsValid() && p.SourceAddress.Is4() != p.Address.Is4() {
		add("source address %s is not of the family of address %s", p.SourceAddress, p.Address)
	}
	if p.MultihopTTL != 0 && p.GTSMHops != 0 {
		add("multihop and GTSM exclude each other")
	}
	if r := p.Reflection; r.Client && p.ASN != localASN(c, p) {
		add("route reflection is for iBGP: the peer is in AS %d, we are in %d", p.ASN, localASN(c, p))
	}
	if p.MultihopTTL != 0 && p.ASN == localASN(c, p) {
		add("multihop is for eBGP: the peer is in our AS %d", p.ASN)
	}
	if h := p.Timers.Hold; h != 0 && (h < 3*time.Second || h > 65535*time.Second) {
		add("hold time %s is not 3 s to 65535 s", h)
	}
	if len(p.Password) > 80 {
		add("password is longer than 80 bytes")
	}
	for _, f := range p.Families {
		if f != routing.IPv4 && f != routing.IPv6 {
			add("unknown family %d", f)
		}
	}
	return errors.Join(errs...)
}

func apiFamily(f routing.Family) *api.Family {
	if f == routing.IPv4 {
		return &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	}
	return &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
}

func bgpFamily(f routing.Family) bgp.Family {
	if f == routing.IPv4 {
		return bgp.RF_IPv4_UC
	}
	return bgp.RF_IPv6_UC
}

// familyOfBGP is the inverse of bgpFamily, 0 for other families.
func familyOfBGP(f bgp.Family) routing.Family {
	switch f {
	case bgp.RF_IPv4_UC:
		return routing.IPv4
	case bgp.RF_IPv6_UC:
		return routing.IPv6
	}
	return 0
}

func seconds(d, def time.Duration) uint64 {
	if d <= 0 {
		d = def
	}
	return uint64(max(d/time.Second, 1))
}

// apiPeer renders a checked peer; restarting says that the session may be one
// which an earlier speaker of this node had (RFC 4724, 4.1).
func apiPeer(c routing.SpeakerConfig, p routing.Peer, restarting bool) *api.Peer {
	gr := gracefulRestart(c, p)
	hold := seconds(p.Timers.Hold, defaultHold)
	out := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: p.Address.String(),
			Description:     p.Name,
			PeerAsn:         p.ASN,
			LocalAsn:        localASN(c, p),
			AuthPassword:    p.Password,
			AllowOwnAsn:     allowOwnAS,
		},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime:               hold,
			KeepaliveInterval:      seconds(p.Timers.Keepalive, time.Duration(hold)*time.Second/3),
			ConnectRetry:           seconds(p.Timers.ConnectRetry, defaultConnectRetry),
			IdleHoldTimeAfterReset: idleAfterReset,
		}},
		Transport: &api.Transport{
			RemotePort:  uint32(p.Port),
			PassiveMode: p.Passive,
		},
	}
	if p.SourceAddress.IsValid() {
		out.Transport.LocalAddress = p.SourceAddress.String()
	}
	if p.MultihopTTL != 0 {
		out.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(p.MultihopTTL)}
	}
	if p.GTSMHops != 0 {
		out.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: 256 - uint32(p.GTSMHops)}
	}
	deferral := uint32(deferralTime)
	if r := p.Reflection; r.Client {
		out.RouteReflector = &api.RouteReflector{RouteReflectorClient: true}
		if r.ClusterID.IsValid() {
			out.RouteReflector.RouteReflectorClusterId = r.ClusterID.String()
		}
		deferral = max(deferral, min(reflectorDeferral, uint32(gr.RestartTime/time.Second)/2))
	}
	if gr.Enabled {
		out.GracefulRestart = &api.GracefulRestart{
			Enabled:             true,
			RestartTime:         uint32(gr.RestartTime / time.Second),
			DeferralTime:        deferral,
			NotificationEnabled: true,
			LocalRestarting:     restarting,
		}
	}
	for _, f := range families(p) {
		af := apiFamily(f)
		out.AfiSafis = append(out.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: af, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: gr.Enabled}},
		})
	}
	return out
}

// nextHop returns the next hop of an advertisement towards a peer, or the zero
// Addr when the node has no address that can be one.
func nextHop(a routing.Advertisement, extended bool) netip.Addr {
	var v4, v6 netip.Addr
	for _, n := range a.NextHops {
		if n = n.Unmap(); n.Is4() {
			v4 = n
		} else {
			v6 = n
		}
	}
	if a.Prefix.Addr().Is6() || extended && v6.IsValid() || !v4.IsValid() {
		return v6
	}
	return v4
}

// apiPath renders the path that is put into the Loc-RIB for a prefix.
func apiPath(prefix netip.Prefix, own ownPath) (*apiutil.Path, error) {
	hop := own.hop
	nlri, err := bgp.NewIPAddrPrefix(prefix)
	if err != nil {
		return nil, fmt.Errorf("prefix %s: %w", prefix, err)
	}
	family := bgpFamily(routing.FamilyOf(prefix.Addr()))
	out := &apiutil.Path{
		Family: family,
		Nlri:   nlri,
		Attrs:  []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP)},
	}
	var attr bgp.PathAttributeInterface
	if prefix.Addr().Is4() && hop.Is4() {
		attr, err = bgp.NewPathAttributeNextHop(hop)
	} else {
		attr, err = bgp.NewPathAttributeMpReachNLRI(family, []bgp.PathNLRI{{NLRI: nlri}}, hop)
	}
	if err != nil {
		return nil, fmt.Errorf("next hop %s of prefix %s: %w", hop, prefix, err)
	}
	out.Attrs = append(out.Attrs, attr, bgp.NewPathAttributeCommunities([]uint32{own.tag}))
	if own.shutdown {
		out.Attrs = append(out.Attrs, bgp.NewPathAttributeLocalPref(0))
	}
	return out, nil
}

// receivedRoute reads a path of an Adj-RIB-In; false: not an IP route.
func receivedRoute(p *apiutil.Path, peer routing.Peer, localASN uint32) (routing.ReceivedRoute, bool) {
	external := peer.ASN != localASN
	if p == nil {
		return routing.ReceivedRoute{}, false
	}
	nlri, ok := p.Nlri.(*bgp.IPAddrPrefix)
	if !ok || nlri == nil || !nlri.Prefix.IsValid() {
		return routing.ReceivedRoute{}, false
	}
	r := routing.ReceivedRoute{
		Prefix:    nlri.Prefix,
		Peer:      peer.Name,
		PeerID:    p.PeerID,
		External:  external,
		LocalPref: defaultLocalPref,
		Origin:    bgp.BGP_ORIGIN_ATTR_TYPE_INCOMPLETE,
	}
	for _, a := range p.Attrs {
		switch a := a.(type) {
		case *bgp.PathAttributeNextHop:
			r.NextHop = a.Value
		case *bgp.PathAttributeMpReachNLRI:
			r.NextHop = a.Nexthop // the global address, where there are two
		case *bgp.PathAttributeOrigin:
			r.Origin = a.Value
		case *bgp.PathAttributeMultiExitDisc:
			r.MED = a.Value
		case *bgp.PathAttributeLocalPref:
			if !external {
				r.LocalPref = a.Value
			}
		case *bgp.PathAttributeAsPath:
			r.PathLength, r.FirstAS = asPath(a)
			r.OwnAS = slices.Contains(asNumbers(a), localASN)
		}
	}
	return r, true
}

// asPath returns the length of the path and the neighbouring AS (0: none).
func asPath(a *bgp.PathAttributeAsPath) (length int, first uint32) {
	for i, seg := range a.Value {
		length += seg.ASLen()
		if as := seg.GetAS(); i == 0 && len(as) > 0 && seg.GetType() == bgp.BGP_ASPATH_ATTR_TYPE_SEQ {
			first = as[0]
		}
	}
	return length, first
}

func asNumbers(a *bgp.PathAttributeAsPath) []uint32 {
	var out []uint32
	for _, seg := range a.Value {
		out = append(out, seg.GetAS()...)
	}
	return out
}
