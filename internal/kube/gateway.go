// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"slices"

	"github.com/waymark-net/waymark/routing"
)

// ReasonNoGateway is that of a BGPPeer whose default gateway is not one router.
const ReasonNoGateway = "NoDefaultGateway"

// AtGateways gives the peers that are the node's default gateway its address.
// Those for whom there is none, or whose address another peer has, become
// problems. underlay are the node's routes that are not ours.
func AtGateways(peers []routing.Peer, underlay []routing.Route) ([]routing.Peer, []PeerProblem) {
	var out []routing.Peer
	var wrong []PeerProblem
	for _, peer := range peers {
		if !peer.DefaultGateway {
			out = append(out, peer)
			continue
		}
		var err error
		if peer.Address, err = routing.DefaultGateway(underlay, peer.Families); err != nil {
			wrong = append(wrong, newPeerProblem(peer, &unusable{ReasonNoGateway, err.Error()}))
			continue
		}
		all := slices.Concat(peers, out)
		if i := slices.IndexFunc(all, func(p routing.Peer) bool { return p.Address == peer.Address }); i >= 0 {
			other, _ := splitPeerName(all[i].Name)
			wrong = append(wrong, newPeerProblem(peer,
				&unusable{ReasonDuplicate, fmt.Sprintf("BGPPeer %s already has the address of the default gateway %s on this node", other, peer.Address)}))
			continue
		}
		out = append(out, peer)
	}
	return out, wrong
}
