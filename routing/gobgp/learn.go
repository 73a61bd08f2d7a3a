// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/waymark-net/waymark/routing"
)

// noEndOfRIB is how long the routes of an established peer may take that does
// not speak graceful restart and so need not mark their end.
const noEndOfRIB = 10 * time.Second

// learned is what the last reading of a peer's Adj-RIB-In gave.
type learned struct {
	added    time.Time // when the neighbour was configured
	used     []routing.ReceivedRoute
	received map[routing.Family]int
	filtered map[routing.Family]map[routing.FilterReason]int
	// complete is sticky: the peer counts as converged.
	complete bool
	// rested is when a peer that rests is tried again.
	rested time.Time
	// severed is when the session was last ended because the path was lost.
	severed time.Time
	// confirming is since when the peer has owed us the answer to our OPEN.
	confirming time.Time
}

// markAll has everything read again, for a new filter.
func (i *instance) markAll() {
	for a := range i.peers {
		i.watch.mark(a)
	}
}

// readRoutes reads the routes of the peers whose routes changed.
func (i *instance) readRoutes(ctx context.Context, filter *routing.ImportFilter) error {
	var errs []error
	for _, a := range i.watch.takeMarks() {
		p, ok := i.peers[a]
		if !ok {
			continue
		}
		if err := i.readPeer(ctx, a, p, filter); err != nil {
			i.watch.mark(a)
			errs = append(errs, fmt.Errorf("BGP peer %s: %w", p.conf.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (i *instance) readPeer(ctx context.Context, a netip.Addr, p *peer, filter *routing.ImportFilter) error {
	asn := localASN(i.config, p.conf)
	received := map[routing.Family]int{}
	var routes []routing.ReceivedRoute
	for _, f := range families(p.conf) {
		req := apiutil.ListPathRequest{
			TableType: api.TableType_TABLE_TYPE_ADJ_IN,
			Name:      a.String(),
			Family:    bgpFamily(f),
		}
		err := i.bgp.ListPath(req, func(_ bgp.NLRI, paths []*apiutil.Path) {
			for _, path := range paths {
				if r, ok := receivedRoute(path, p.conf, asn); ok {
					routes = append(routes, r)
					received[f]++
				}
			}
		})
		if err != nil {
			return fmt.Errorf("reading received %s routes: %w", f, err)
		}
	}
	p.received = received
	for f, n := range received {
		if n > i.limit && p.rested.IsZero() {
			return i.rest(ctx, p, prefixLimitRest, "too many prefixes",
				fmt.Sprintf("the peer announced more than %d %s prefixes, the session rests for %s", i.limit, f, prefixLimitRest))
		}
	}
	p.used, p.filtered = routing.Import(routes, filter, p.conf.Import)
	return nil
}

// rest ends the session of a peer, or the attempt at one, for a while. The peer
// is told the first reason, we say the second.
func (i *instance) rest(ctx context.Context, p *peer, d time.Duration, told, why string) error {
	p.rested = time.Now().Add(d)
	i.watch.blame(p.conf.Address, why)
	err := i.bgp.DisablePeer(ctx, &api.DisablePeerRequest{Address: p.conf.Address.String(), Communication: told})
	if err != nil {
		return fmt.Errorf("BGP peer %s: ending the session: %w", p.conf.Name, err)
	}
	return nil
}

// confirmTime is how long a peer may take to answer our OPEN with the KEEPALIVE
// that confirms it, which it sends at once.
const confirmTime = 5 * time.Second

// free tries again where the peer does not confirm our OPEN. When both ends
// connect at the same moment, each has to keep the same one of the two
// connections (RFC 4271, section 6.8). GoBGP does not always choose, and both
// would wait for the hold timer.
func (i *instance) free(ctx context.Context, sessions []routing.SessionStatus, now time.Time) error {
	var errs []error
	for _, s := range sessions {
		p, ok := i.peers[s.Address]
		switch {
		case !ok:
		case s.State != routing.SessionOpenConfirm:
			p.confirming = time.Time{}
		case p.confirming.IsZero():
			p.confirming = now
		case now.Sub(p.confirming) >= confirmTime && p.rested.IsZero():
			// The other end may do the same: not again at the same moment.
			errs = append(errs, i.rest(ctx, p, rand.N(2*time.Second), "",
				fmt.Sprintf("the peer did not confirm our OPEN message within %s", confirmTime)))
		}
	}
	return errors.Join(errs...)
}

// wake tries the peers again that have rested.
func (i *instance) wake(ctx context.Context, now time.Time) error {
	var errs []error
	for a, p := range i.peers {
		if p.rested.IsZero() || now.Before(p.rested) {
			continue
		}
		p.rested = time.Time{}
		if err := i.bgp.EnablePeer(ctx, &api.EnablePeerRequest{Address: a.String()}); err != nil {
			errs = append(errs, fmt.Errorf("BGP peer %s: enabling: %w", p.conf.Name, err))
		}
	}
	return errors.Join(errs...)
}

// selected returns the best of what all peers announce but the suspended ones.
func (i *instance) selected(maximumPaths int, suspended map[string]string) []routing.LearnedRoute {
	var all []routing.ReceivedRoute
	for a, p := range i.peers {
		if _, lost := suspended[p.conf.Name]; !lost && !i.severing(a, p) {
			all = append(all, p.used...)
		}
	}
	return routing.SelectRoutes(all, maximumPaths)
}

// converged says whether every peer has sent all its routes or can no longer
// be waited for. Once true it stays so: peers that are added later do not
// make routes of an earlier run of the agent appear.
func (i *instance) converged(now time.Time) bool {
	if i.allDone {
		return true
	}
	i.allDone = true
	for a, p := range i.peers {
		if !p.complete {
			wait := gracefulRestart(i.config, p.conf).RestartTime
			p.complete = i.watch.heardAll(a, now) || now.Sub(p.added) >= wait && !i.watch.justUp(a, now)
		}
		i.allDone = i.allDone && p.complete
	}
	return i.allDone
}

func comparePeers(a, b routing.Peer) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), a.Address.Compare(b.Address))
}

func sortedPeers(peers map[netip.Addr]*peer) []*peer {
	out := make([]*peer, 0, len(peers))
	for _, p := range peers {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b *peer) int { return comparePeers(a.conf, b.conf) })
	return out
}
