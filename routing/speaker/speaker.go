// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/bfd"
	"github.com/waymark-net/waymark/routing/bfd/handover"
	"github.com/waymark-net/waymark/routing/gobgp"
)

// Params are the parameters of New.
type Params struct {
	// OnRoutes is told all learned routes whenever they or their convergence
	// change. Required.
	OnRoutes func(routing.PathEvent)
	// OnSessions is told the status of all peers, sorted by name, whenever one
	// changes. Optional.
	OnSessions func([]routing.SessionStatus)
	// Dir is where BFD sessions are kept, for a standby (routing/bfd/handover) that
	// goes on with them after our end, and for us after that. Empty: they end with
	// us.
	Dir string
}

// Speaker is the node's routing speaker.
type Speaker struct {
	params  Params
	bgp     *gobgp.Speaker
	changed chan struct{} // wakes Run
	// ready is closed when BFD is ours, which bfd and what was resumed wait for.
	ready chan struct{}
	bfd   *bfd.Engine

	// Owned by Run's goroutine.
	judge    judge
	lost     map[string]string // as BGP was told
	reported []routing.SessionStatus

	setting sync.Mutex // held while what is wanted changes
	wanted  bool       // it is known: Set was called
	peers   []routing.Peer
	begun   map[string]netip.Addr // peers that BFD has begun with
	watched []bfd.Session         // as BFD was told

	mu       sync.Mutex
	sessions []routing.SessionStatus // as BGP tells them
	told     bool                    // sessions
}

// New returns a speaker that does nothing before Run.
func New(p Params) *Speaker {
	s := &Speaker{params: p, changed: make(chan struct{}, 1), ready: make(chan struct{}), judge: judge{}, begun: map[string]netip.Addr{}}
	s.bgp = gobgp.New(gobgp.Params{OnRoutes: p.OnRoutes, OnSessions: s.onSessions})
	return s
}

// Run runs the speaker until ctx ends, then closes its sessions such that the
// peers keep our routes (graceful restart). It may be called once.
func (s *Speaker) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.bgp.Run(ctx) })
	group.Go(func() error { return s.runBFD(ctx) })
	group.Go(func() error {
		if !s.own(ctx) {
			return nil
		}
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-s.changed:
				s.follow(ctx)
			}
		}
	})
	return group.Wait()
}

// runBFD goes on with the sessions that there are, and keeps them for whoever goes
// on with them after the end of ctx.
func (s *Speaker) runBFD(ctx context.Context) error {
	params := bfd.Params{OnState: func(string, bfd.Status) { s.wake() }}
	if s.params.Dir == "" {
		s.bfd = bfd.New(params)
		close(s.ready)
		return s.bfd.Run(ctx)
	}
	logger := klog.FromContext(ctx)
	turn, err := handover.Take(ctx, s.params.Dir)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("BFD: %w", err)
	}
	defer func() { _ = turn.End() }()
	checkpoint, err := turn.Load()
	if err != nil {
		logger.Error(err, "BFD sessions that were cannot go on")
	}
	s.bfd = handover.NewEngine(turn, params, logger)
	s.bfd.Resume(checkpoint)
	s.judge = resumed(s.bfd.Status())
	for _, saved := range checkpoint {
		s.begun[saved.Name] = saved.Peer
	}
	logger.Info("BFD begins", "sessions", len(checkpoint))
	close(s.ready)
	s.wake() // a session may have gone down while there was no speaker
	return s.bfd.Run(ctx)
}

// own waits until BFD is ours, and says whether it is.
func (s *Speaker) own(ctx context.Context) bool {
	select {
	case <-s.ready:
		return true
	case <-ctx.Done():
		return false
	}
}

// Set makes the speaker what config says and changes only what differs: peers
// that stay as they are keep their sessions. A part that is wrong is named in
// the error and left out, the rest is done. Set waits for Run, or for the end of
// ctx.
func (s *Speaker) Set(ctx context.Context, config routing.BGPConfig) error {
	defer s.wake() // a session that is not wanted any more says nothing
	s.setting.Lock()
	defer s.setting.Unlock()
	err := s.bgp.Set(ctx, config)
	if !s.own(ctx) {
		return errors.Join(err, context.Cause(ctx))
	}
	s.peers, s.watched, s.wanted = slices.Clone(config.Peers), nil, true
	return errors.Join(err, s.watch(ctx))
}

// watch has BFD watch the paths to the peers that it is wanted for, each from
// when its BGP session has been up first: routers begin anew then, which would
// look like a loss. Sessions that were resumed stay as they are until it is known
// what is wanted. The caller holds setting.
func (s *Speaker) watch(ctx context.Context) error {
	if !s.wanted {
		return nil
	}
	s.mu.Lock()
	s.begun = begin(s.peers, s.begun, s.sessions)
	s.mu.Unlock()
	want := sessions(slices.DeleteFunc(slices.Clone(s.peers), func(p routing.Peer) bool {
		return !p.Address.IsValid() || s.begun[p.Name] != p.Address
	}))
	if s.watched != nil && slices.Equal(s.watched, want) {
		return nil
	}
	s.watched = want
	return s.bfd.Set(ctx, want)
}

// begin returns the addresses of the peers that BFD is to run with: those that it
// ran with before, and those that have a session now. A default gateway that is not
// known yet has no address.
func begin(peers []routing.Peer, before map[string]netip.Addr, statuses []routing.SessionStatus) map[string]netip.Addr {
	up := map[string]netip.Addr{}
	for _, st := range statuses {
		if st.State == routing.SessionEstablished {
			up[st.Peer] = st.Address
		}
	}
	out := map[string]netip.Addr{}
	for _, p := range peers {
		if p.BFD != nil && p.Address.IsValid() && (before[p.Name] == p.Address || up[p.Name] == p.Address) {
			out[p.Name] = p.Address
		}
	}
	return out
}

// Shutdown ends all sessions with Cease, so that the peers drop our routes at
// once: for the deliberate removal of the node from the network.
func (s *Speaker) Shutdown(ctx context.Context) error {
	return s.Set(ctx, routing.BGPConfig{})
}

// sessions are the BFD sessions of the peers that have one.
func sessions(peers []routing.Peer) []bfd.Session {
	out := []bfd.Session{}
	for _, p := range peers {
		if p.BFD == nil {
			continue
		}
		s := bfd.Session{
			Name: p.Name, Local: p.SourceAddress, Peer: p.Address, Multihop: p.BFD.Multihop,
			DesiredMinTx: p.BFD.MinTx, RequiredMinRx: p.BFD.MinRx, DetectMult: uint8(p.BFD.Multiplier),
		}
		if s.Multihop && p.GTSMHops != 0 {
			s.MinTTL = uint8(256 - int(p.GTSMHops))
		}
		out = append(out, s)
	}
	return out
}

func (s *Speaker) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *Speaker) onSessions(sessions []routing.SessionStatus) {
	s.mu.Lock()
	s.sessions, s.told = sessions, true
	s.mu.Unlock()
	s.wake()
}

// follow does what BFD's statuses ask for, and reports.
func (s *Speaker) follow(ctx context.Context) {
	var errs []error
	statuses := s.bfd.Status()
	fresh, lost := s.judge.look(statuses)
	for name, why := range fresh {
		klog.FromContext(ctx).Info("The path to a BGP peer was lost", "peer", name, "reason", why)
	}
	if len(fresh) > 0 {
		// With those whose path is back already: their sessions end, too.
		all := maps.Clone(lost)
		maps.Copy(all, fresh)
		errs = append(errs, s.suspend(ctx, all))
	}
	for name := range s.lost {
		if _, still := lost[name]; !still {
			klog.FromContext(ctx).Info("Routes of a BGP peer are used again as far as BFD is concerned", "peer", name)
		}
	}
	errs = append(errs, s.suspend(ctx, lost))
	if s.setting.TryLock() { // else Set does it, and wakes us
		errs = append(errs, s.watch(ctx))
		s.setting.Unlock()
	}
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Following BFD failed")
	}
	s.report(statuses, lost)
}

// suspend tells BGP whose path is lost, if it does not know.
func (s *Speaker) suspend(ctx context.Context, lost map[string]string) error {
	if maps.Equal(s.lost, lost) {
		return nil
	}
	s.lost = lost
	return s.bgp.Suspend(ctx, lost)
}

// report tells the sessions with what BFD says.
func (s *Speaker) report(statuses []bfd.Status, lost map[string]string) {
	s.mu.Lock()
	merged, told := merge(s.sessions, statuses, lost), s.told
	s.mu.Unlock()
	if !told || s.params.OnSessions == nil || s.reported != nil && reflect.DeepEqual(s.reported, merged) {
		return
	}
	s.reported = merged
	s.params.OnSessions(merged)
}

// merge returns the sessions with what BFD says of their peers.
func merge(sessions []routing.SessionStatus, statuses []bfd.Status, lost map[string]string) []routing.SessionStatus {
	byName := map[string]bfd.Status{}
	for _, st := range statuses {
		byName[st.Name] = st
	}
	out := make([]routing.SessionStatus, 0, len(sessions))
	for _, session := range sessions {
		if st, ok := byName[session.Peer]; ok {
			_, suspended := lost[session.Peer]
			session.BFD = status(st, suspended)
		}
		out = append(out, session)
	}
	return out
}

func status(st bfd.Status, suspended bool) *routing.BFDStatus {
	out := &routing.BFDStatus{
		State: st.State.String(), RemoteState: st.RemoteState.String(), Since: st.Since,
		Interval: st.TxInterval, DetectionTime: st.DetectionTime, Downs: st.Downs,
		Suspended: suspended, Error: st.Error,
	}
	if st.Diagnostic != bfd.DiagNone {
		out.Diagnostic = st.Diagnostic.String()
	}
	return out
}
