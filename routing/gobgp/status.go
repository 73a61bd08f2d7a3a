// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/osrg/gobgp/v4/api"

	"github.com/waymark-net/waymark/routing"
)

var sessionStates = map[api.PeerState_SessionState]routing.SessionState{
	api.PeerState_SESSION_STATE_IDLE:        routing.SessionIdle,
	api.PeerState_SESSION_STATE_CONNECT:     routing.SessionConnect,
	api.PeerState_SESSION_STATE_ACTIVE:      routing.SessionActive,
	api.PeerState_SESSION_STATE_OPENSENT:    routing.SessionOpenSent,
	api.PeerState_SESSION_STATE_OPENCONFIRM: routing.SessionOpenConfirm,
	api.PeerState_SESSION_STATE_ESTABLISHED: routing.SessionEstablished,
}

// status returns the status of all peers, sorted by name.
func (i *instance) status(ctx context.Context) ([]routing.SessionStatus, error) {
	rows := map[netip.Addr]*api.Peer{}
	err := i.bgp.ListPeer(ctx, &api.ListPeerRequest{EnableAdvertised: true}, func(p *api.Peer) {
		if a, err := netip.ParseAddr(p.GetConf().GetNeighborAddress()); err == nil {
			rows[a] = p
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing BGP peers: %w", err)
	}
	out := make([]routing.SessionStatus, 0, len(i.peers))
	for _, p := range sortedPeers(i.peers) {
		out = append(out, i.sessionStatus(p, rows[p.conf.Address]))
	}
	return out, nil
}

func (i *instance) sessionStatus(p *peer, row *api.Peer) routing.SessionStatus {
	st := routing.SessionStatus{
		Peer:    p.conf.Name,
		Address: p.conf.Address,
		ASN:     p.conf.ASN,
		State:   sessionStates[row.GetState().GetSessionState()],
	}
	if st.State == "" {
		st.State = routing.SessionIdle
	}
	advertised := map[api.Family_Afi]int{}
	for _, af := range row.GetAfiSafis() {
		advertised[af.GetState().GetFamily().GetAfi()] = int(af.GetState().GetAdvertised())
	}
	seen := i.watch.seen(p.conf.Address)
	st.Since = seen.since
	if st.Since.IsZero() {
		st.Since = p.added
	}
	st.LastError, st.LastErrorAt = seen.lastError(st.State == routing.SessionEstablished)
	extended := false
	for _, f := range families(p.conf) {
		fs := routing.FamilyStatus{
			Family:     f,
			Negotiated: st.State == routing.SessionEstablished && seen.families[f],
			Received:   p.received[f],
			Filtered:   p.filtered[f],
			Advertised: advertised[apiFamily(f).GetAfi()],
		}
		for _, n := range fs.Filtered {
			fs.Accepted -= n
		}
		fs.Accepted += fs.Received
		if st.State == routing.SessionEstablished && !fs.Negotiated {
			st.Warnings = append(st.Warnings, fmt.Sprintf("the peer does not speak %s on this session", f))
		}
		if n := fs.Filtered[routing.FilterMaxPrefixes]; n > 0 {
			st.Warnings = append(st.Warnings, fmt.Sprintf("the peer announces %d %s prefixes more than the %d that are accepted of it",
				n, f, p.conf.Import.Max()))
		}
		extended = extended || f == routing.IPv4 && fs.Advertised > 0 && i.sendsExtended(p.conf)
		st.Families = append(st.Families, fs)
	}
	if st.State == routing.SessionEstablished {
		if extended && !seen.extendedNextHop {
			st.Warnings = append(st.Warnings, "the peer does not take IPv4 prefixes with an IPv6 next hop (extended next hop, RFC 8950)")
		}
		if seen.warning != "" {
			st.Warnings = append(st.Warnings, seen.warning)
		}
	}
	return st
}

// sendsExtended says whether the peer is sent an IPv4 prefix with an IPv6 next hop.
func (i *instance) sendsExtended(p routing.Peer) bool {
	for prefix, own := range i.ann.paths {
		if prefix.Addr().Is4() && (own.hop.Is6() || p.ExtendedNextHop) {
			return true
		}
	}
	return false
}
