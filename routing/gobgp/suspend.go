// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"time"
)

// bfdDown is what a peer is told when its session is ended because the path is
// lost. GoBGP cannot send the subcode that RFC 9384 has for it.
const bfdDown = "BFD Down"

// severRest is how long a session rests that is ended because the path is lost:
// less than BFD needs to be up again.
const severRest = time.Second

// Suspend makes the peers of why, by name, all those whose routes are not used,
// although their sessions may be up. Routes come and go before it returns,
// without waiting for more changes. The established session of a peer that was
// not suspended before is ended, with the reason for SessionStatus.LastError: a
// session over a path that was lost has to begin anew, also where the path is
// back sooner than the session would notice. Suspend waits for Run, or for the
// end of ctx.
func (s *Speaker) Suspend(ctx context.Context, why map[string]string) error {
	why = maps.Clone(why)
	return s.ask(ctx, func(ctx context.Context) error { return s.suspend(ctx, why) })
}

func (s *Speaker) suspend(ctx context.Context, why map[string]string) error {
	before := s.suspended
	s.suspended = why
	if s.inst == nil || s.delivered == nil {
		return nil
	}
	var errs []error
	for a, p := range s.inst.peers {
		reason, now := why[p.conf.Name]
		if _, was := before[p.conf.Name]; now && !was && s.watch.seen(a).up {
			errs = append(errs, s.inst.sever(ctx, p, reason))
		}
	}
	ev := *s.delivered
	ev.Routes = s.inst.selected(s.config.Speaker.MaximumPaths, why)
	s.deliverRoutes(ev)
	return errors.Join(errs...)
}

// sever ends an established session. Its routes do not outlive it at our end:
// graceful restart is for peers whose path is there. GoBGP would keep a reset that
// the session does not live to see, and end the next one with it.
func (i *instance) sever(ctx context.Context, p *peer, why string) error {
	if !p.rested.IsZero() {
		return nil // it is being ended
	}
	p.severed = time.Now()
	return i.rest(ctx, p, severRest, bfdDown, why)
}

// severing says whether no session of a peer was established since one was ended:
// until then the paths that GoBGP has of it are those of the one that ended, for a
// moment also when the session is down already.
func (i *instance) severing(a netip.Addr, p *peer) bool {
	seen := i.watch.seen(a)
	return !p.severed.IsZero() && (!seen.up || !seen.since.After(p.severed))
}
