// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"

	"github.com/waymark-net/waymark/routing"
)

// apply makes the server what config says.
func (s *Speaker) apply(ctx context.Context, config routing.BGPConfig) error {
	if config.Speaker.ListenPort == 0 {
		config.Speaker.ListenPort = 179
	}
	s.config, s.told = config, true
	s.filter = routing.NewImportFilter(config.Scope)
	peers, err := checkedPeers(config)
	errs := []error{err}
	if s.inst != nil && (len(peers) == 0 || !sameServer(s.inst.config, config.Speaker)) {
		errs = append(errs, s.stop(true))
	}
	if len(peers) == 0 {
		if s.delivered == nil && !s.waiting(time.Now()) {
			s.deliverRoutes(routing.PathEvent{Converged: true})
		}
		return errors.Join(errs...)
	}
	if s.inst == nil {
		if err := checkSpeaker(config.Speaker); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if s.inst, err = startInstance(ctx, config.Speaker, s.watch, s.limit); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	s.inst.config = config.Speaker
	restarting := time.Since(s.started) < gracefulRestart(config.Speaker, routing.Peer{}).RestartTime
	errs = append(errs, s.inst.apply(ctx, config, peers, restarting))
	s.inst.markAll()
	return errors.Join(errs...)
}

func checkSpeaker(c routing.SpeakerConfig) error {
	if c.ASN == 0 {
		return errors.New("BGP speaker: ASN is 0")
	}
	if !c.RouterID.Is4() || c.RouterID.IsUnspecified() {
		return fmt.Errorf("BGP speaker: router ID %s is not an IPv4 address", c.RouterID)
	}
	return nil
}

// checkedPeers returns the peers that can be configured, by name.
func checkedPeers(config routing.BGPConfig) ([]routing.Peer, error) {
	var out []routing.Peer
	var errs []error
	holder := map[netip.Addr]string{}
	sorted := slices.Clone(config.Peers)
	slices.SortFunc(sorted, comparePeers)
	for _, p := range sorted {
		err := checkPeer(config.Speaker, p)
		if other, taken := holder[p.Address]; err == nil && taken {
			err = fmt.Errorf("address %s is that of peer %s", p.Address, other)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("BGP peer %s: %w", p.Name, err))
			continue
		}
		holder[p.Address] = p.Name
		out = append(out, p)
	}
	return out, errors.Join(errs...)
}

// apply changes policies and paths before it adds neighbours, so that a new
// session announces everything before its End-of-RIB, and removes last. Policies
// know the tags of before until no path has them: what a peer is not told any more
// is withdrawn because they say that it was.
func (i *instance) apply(ctx context.Context, config routing.BGPConfig, peers []routing.Peer, restarting bool) error {
	want, err := announce(config, peers, i.tags)
	before := i.ann.reflection
	errs := []error{err, i.setPolicies(ctx, want.withPoliciesOf(i.ann)), i.addPaths(want)}
	known := i.addresses()
	wanted := map[netip.Addr]bool{}
	for _, p := range peers {
		wanted[p.Address] = true
		if err := i.setPeer(ctx, p, restarting); err != nil {
			errs = append(errs, fmt.Errorf("BGP peer %s (%s): %w", p.Name, p.Address, err))
		}
	}
	errs = append(errs, i.removePaths(want))
	for _, a := range known {
		if !wanted[a] {
			errs = append(errs, i.removePeer(ctx, a))
		}
	}
	// Paths that could not be changed are still told what they were.
	if maps.Equal(i.ann.paths, want.paths) {
		errs = append(errs, i.setPolicies(ctx, want))
	}
	stay := slices.DeleteFunc(known, func(a netip.Addr) bool { return !wanted[a] })
	errs = append(errs, i.refresh(ctx, stay, before))
	return errors.Join(errs...)
}

func (i *instance) addPaths(want announcements) error {
	var errs []error
	var prefixes []netip.Prefix
	var paths []*apiutil.Path
	for prefix, own := range want.paths {
		if i.ann.paths[prefix] == own {
			continue
		}
		path, err := apiPath(prefix, own)
		if err != nil {
			errs = append(errs, fmt.Errorf("announcing %s: %w", prefix, err))
			continue
		}
		prefixes, paths = append(prefixes, prefix), append(paths, path)
	}
	for len(paths) > 0 {
		n := min(len(paths), pathsAtOnce)
		answers, err := i.bgp.AddPath(apiutil.AddPathRequest{Paths: paths[:n]})
		for j, prefix := range prefixes[:n] {
			switch {
			case j >= len(answers):
				errs = append(errs, fmt.Errorf("announcing %s: %w", prefix, err))
			case answers[j].Error != nil:
				errs = append(errs, fmt.Errorf("announcing %s: %w", prefix, answers[j].Error))
			default:
				i.ann.paths[prefix] = want.paths[prefix]
			}
		}
		prefixes, paths = prefixes[n:], paths[n:]
	}
	return errors.Join(errs...)
}

func (i *instance) removePaths(want announcements) error {
	var errs []error
	for prefix, own := range i.ann.paths {
		if _, ok := want.paths[prefix]; ok {
			continue
		}
		path, err := apiPath(prefix, own)
		if err == nil {
			err = i.bgp.DeletePath(apiutil.DeletePathRequest{Paths: []*apiutil.Path{path}})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("withdrawing %s: %w", prefix, err))
			continue
		}
		delete(i.ann.paths, prefix)
	}
	return errors.Join(errs...)
}

// session returns the part of a peer that GoBGP is told.
func session(p routing.Peer) routing.Peer {
	p.Families = families(p)
	p.Import = routing.ImportRule{}
	p.Export = routing.ExportRule{}
	p.ExtendedNextHop = false
	p.BFD = nil
	p.DefaultGateway = false
	p.Reflection.PassOn = false
	return p
}

// setPeer adds or changes one neighbour. GoBGP ends the session itself where
// the change needs a new OPEN.
func (i *instance) setPeer(ctx context.Context, p routing.Peer, restarting bool) error {
	old, ok := i.peers[p.Address]
	switch {
	case !ok:
		i.watch.expect(p)
		if err := i.bgp.AddPeer(ctx, &api.AddPeerRequest{Peer: apiPeer(i.config, p, restarting)}); err != nil {
			return fmt.Errorf("adding: %w", err)
		}
		i.peers[p.Address] = &peer{conf: p, learned: learned{added: time.Now()}}
		return nil
	case !reflect.DeepEqual(session(old.conf), session(p)):
		i.watch.expect(p)
		restarting = restarting && !i.watch.wasUp(p.Address)
		if old.conf.Reflection != p.Reflection {
			// GoBGP does not change it in a session.
			if err := i.removePeer(ctx, p.Address); err != nil {
				return err
			}
			return i.setPeer(ctx, p, restarting)
		}
		if _, err := i.bgp.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: apiPeer(i.config, p, restarting)}); err != nil {
			return fmt.Errorf("changing: %w", err)
		}
	}
	old.conf = p
	return nil
}

func (i *instance) removePeer(ctx context.Context, a netip.Addr) error {
	p := i.peers[a]
	if p.conf.Password != "" {
		// Only a change of the password takes the key off the listening socket.
		bare := p.conf
		bare.Password = ""
		if _, err := i.bgp.UpdatePeer(ctx, &api.UpdatePeerRequest{Peer: apiPeer(i.config, bare, false)}); err != nil {
			return fmt.Errorf("BGP peer %s (%s): removing its password: %w", p.conf.Name, a, err)
		}
		p.conf = bare
	}
	if err := i.bgp.DeletePeer(ctx, &api.DeletePeerRequest{Address: a.String()}); err != nil {
		return fmt.Errorf("BGP peer %s (%s): removing: %w", p.conf.Name, a, err)
	}
	delete(i.peers, a)
	i.watch.forget(a)
	return nil
}

func (i *instance) addresses() []netip.Addr {
	out := make([]netip.Addr, 0, len(i.peers))
	for a := range i.peers {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
