// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/klog/v2"
)

// Run connects to the switch, keeps it as wanted and connects again whenever
// the connection is lost, until ctx ends; it returns the cause. An invalid meter
// is an error at once.
func (t *Target) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx).WithValues("socket", t.params.Socket)
	ctx = klog.NewContext(ctx, logger)
	for _, m := range t.params.Meters {
		if err := m.Check(); err != nil {
			return err
		}
	}
	backoff := minBackoff
	said := ""
	for {
		err := t.runOnce(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case t.disconnected(err):
			backoff = minBackoff
			logger.Info("Lost the switch, will connect again", "reason", err.Error())
		case err.Error() != said:
			logger.Info("Waiting for the switch", "reason", err.Error())
		}
		said = err.Error()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// disconnected records why there is no connection and tells whether there was
// one that worked.
func (t *Target) disconnected(err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.inSync
	t.stats.Connected, t.inSync, t.lastErr = false, false, err
	t.broadcast()
	return was
}

// runOnce serves one connection. It always returns an error.
func (t *Target) runOnce(ctx context.Context) error {
	timeout, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	sw, err := t.dial(timeout)
	if err != nil {
		return err
	}
	defer sw.close()
	t.mu.Lock()
	t.stats.Connected = true
	t.stats.Connects++
	t.dirty.full = true
	t.retryRefused(func(*ownerState) bool { return true })
	t.broadcast()
	t.mu.Unlock()
	s := &session{target: t, sw: sw}
	if err := s.start(ctx); err != nil {
		return err
	}
	return s.serve(ctx)
}

// session is the work on one connection, by the goroutine of Run.
type session struct {
	target *Target
	sw     ofswitch
	have   *mirror
	// seen is the hash of what the last audit read, when nothing was sent
	// since.
	seen   uint64
	seenOK bool
	// told is when the switch first said, since the last audit, that somebody else
	// changed flows; zero if it did not.
	told time.Time
	// noMeters says that the switch refused the meters.
	noMeters bool
}

// start reads what the switch holds and makes it as wanted.
func (s *session) start(ctx context.Context) error {
	flows, groups, err := s.read(ctx)
	if err != nil {
		return err
	}
	if _, err := s.keepMeters(ctx); err != nil {
		return err
	}
	if len(flows) == 0 && s.target.params.Fresh != nil {
		s.target.params.Fresh()
	}
	s.have = newMirror(flows, groups, nil)
	before := s.target.Stats()
	if err := s.flush(ctx); err != nil {
		return err
	}
	t := s.target
	t.mu.Lock()
	t.inSync, t.lastErr = true, nil
	t.broadcast()
	t.mu.Unlock()
	after := t.Stats()
	klog.FromContext(ctx).Info("Connected to the switch", "found", len(flows), "wanted", after.Flows,
		"added", after.FlowAdds-before.FlowAdds, "modified", after.FlowModifies-before.FlowModifies,
		"deleted", after.FlowDeletes-before.FlowDeletes)
	return nil
}

func (s *session) serve(ctx context.Context) error {
	interval := s.target.params.AuditInterval
	audit := time.NewTimer(interval)
	defer audit.Stop()
	// The last audit; the session began with as much.
	var took time.Duration
	ended := time.Now()
	for {
		var err error
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.sw.lost():
			return s.sw.cause()
		case <-s.target.wake:
			err = s.flush(ctx)
		case <-s.sw.changes():
			if s.told.IsZero() {
				s.told = time.Now()
			}
			audit.Reset(time.Until(ended.Add(auditPause(interval, took, true))))
		case <-audit.C:
			began := time.Now()
			err = s.audit(ctx)
			ended = time.Now()
			took = ended.Sub(began)
			next := auditPause(interval, took, false)
			if took > slowAudit {
				klog.FromContext(ctx).Info("The switch was slow to be audited", "took", took, "next", next)
			}
			audit.Reset(next)
		}
		if err != nil {
			return err
		}
	}
}

// flush sends what is marked until nothing is.
func (s *session) flush(ctx context.Context) error {
	for {
		b := s.target.take(s.have)
		if b == nil {
			return nil
		}
		if err := s.send(ctx, b); err != nil {
			s.target.mu.Lock()
			s.target.dirty.full = true
			for owner, n := range b.owners {
				s.target.dirty.owners[owner] = max(n, s.target.dirty.owners[owner])
			}
			s.target.mu.Unlock()
			return err
		}
	}
}

// batch is what goes into one bundle, and the owners whose changes are then
// in the switch.
type batch struct {
	ops    []op
	owners map[string]uint64
}

// send commits a batch. An owner whose flow is refused is left out, with all
// of its operations, and the rest is sent again.
func (s *session) send(ctx context.Context, b *batch) error {
	for len(b.ops) > 0 {
		err := s.commit(ctx, b.ops)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrRefused) && !isEntryError(err) {
			return err
		}
		if b, err = s.leaveOut(ctx, b, err); err != nil {
			return err
		}
	}
	s.target.done(b.owners)
	return nil
}

func isEntryError(err error) bool {
	var e *entryError
	return errors.As(err, &e)
}

// leaveOut returns b without the owner that err is about. When err names no
// entry, the owners are tried one by one and nothing remains.
func (s *session) leaveOut(ctx context.Context, b *batch, err error) (*batch, error) {
	var named *entryError
	if errors.As(err, &named) {
		s.target.refused(ctx, named.op.owner, err)
		return b.without(named.op), nil
	}
	for _, one := range b.split() {
		switch err := s.commit(ctx, one.ops); {
		case err == nil:
			s.target.done(one.owners)
		case errors.Is(err, ErrRefused) || isEntryError(err):
			s.target.refused(ctx, one.ops[0].owner, err)
		default:
			return nil, err
		}
	}
	return &batch{}, nil
}

// without leaves out the owner of o, or o itself when it has none.
func (b *batch) without(o op) *batch {
	out := &batch{owners: map[string]uint64{}}
	for _, other := range b.ops {
		if o.owner == "" && other.same(o) || o.owner != "" && other.owner == o.owner {
			continue
		}
		out.ops = append(out.ops, other)
	}
	for owner, n := range b.owners {
		if owner != o.owner {
			out.owners[owner] = n
		}
	}
	return out
}

// split makes a batch of each owner's operations, in their order.
func (b *batch) split() []*batch {
	var out []*batch
	byOwner := map[string]*batch{}
	for _, o := range b.ops {
		one, ok := byOwner[o.owner]
		if !ok {
			one = &batch{owners: map[string]uint64{}}
			if n, ok := b.owners[o.owner]; ok {
				one.owners[o.owner] = n
			}
			byOwner[o.owner] = one
			out = append(out, one)
		}
		one.ops = append(one.ops, o)
	}
	return out
}

// commit sends one bundle and keeps the picture and the counters.
func (s *session) commit(ctx context.Context, ops []op) error {
	timeout := defaultTimeout + time.Duration(len(ops))*timeoutPerMod
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errors.New("the switch does not answer"))
	defer cancel()
	s.seenOK = false
	err := s.sw.commit(ctx, ops)
	t := s.target
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.stats.Refused++
		return fmt.Errorf("change the flows: %w", err)
	}
	t.stats.Bundles++
	for _, o := range ops {
		t.stats.count(o.kind)
	}
	s.have.apply(ops)
	return nil
}
