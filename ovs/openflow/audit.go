// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"errors"
	"slices"
	"time"

	"k8s.io/klog/v2"
)

const (
	// auditShare bounds the part of the time that audits take to one in so many:
	// to read a hundred thousand flows is work, for the switch too.
	auditShare = 20
	// maxAuditPause bounds what follows from that: a switch that answered late
	// once, on a machine that was busy, is to be looked at again soon.
	maxAuditPause = 15 * time.Second
	// Who changes flows all the time must not keep the switch busy with audits.
	askedShare    = 4
	minAuditPause = 100 * time.Millisecond
	// slowAudit is worth a line in the log.
	slowAudit = time.Second
)

// auditPause is the time from the end of an audit that took so long to the next,
// which comes sooner when the switch says that somebody else changed flows.
func auditPause(interval, took time.Duration, asked bool) time.Duration {
	if asked {
		return min(interval, max(minAuditPause, min(askedShare*took, maxAuditPause)))
	}
	return max(interval, min(auditShare*took, maxAuditPause))
}

// read is what the switch holds without what it has learned.
func (s *session) read(ctx context.Context) ([]rawFlow, []rawGroup, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, defaultTimeout, errors.New("the switch does not answer"))
	defer cancel()
	flows, err := s.sw.flows(ctx)
	if err != nil {
		return nil, nil, err
	}
	flows = slices.DeleteFunc(flows, func(r rawFlow) bool { return s.target.params.learned(r.table) })
	groups, err := s.sw.groups(ctx)
	return flows, groups, err
}

// audit compares what the switch holds with the picture of it, and repairs.
// Reading is cheap; only when something differs from the last audit is
// anything decoded.
func (s *session) audit(ctx context.Context) error {
	began := s.told
	if began.IsZero() {
		began = time.Now()
	}
	s.told = time.Time{}
	flows, groups, err := s.read(ctx)
	if err != nil {
		return err
	}
	repair := Repair{}
	repair.Meters, err = s.keepMeters(ctx)
	if err != nil {
		return err
	}
	// A sum does not depend on the order, in which switches are free.
	var sum uint64
	for _, f := range flows {
		sum += f.hash(seed)
	}
	for _, g := range groups {
		sum += g.hash(seed)
	}
	t := s.target
	if !s.seenOK || sum != s.seen {
		found := newMirror(flows, groups, s.have)
		repair.Flows, repair.Groups = s.have.differs(found)
		s.have, s.seen, s.seenOK = found, sum, true
	}
	drift, now := repair.Flows+repair.Groups, time.Now()
	t.mu.Lock()
	t.stats.Audits++
	t.retryRefused(func(o *ownerState) bool { return !now.Before(o.retryAt) })
	t.dirty.full = t.dirty.full || drift > 0
	t.mu.Unlock()
	if drift > 0 {
		klog.FromContext(ctx).Info("Something else changed the switch, repairing", "differences", drift)
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	t.stats.Repairs += uint64(drift + repair.Meters)
	t.mu.Unlock()
	if drift+repair.Meters > 0 && t.params.Repaired != nil {
		repair.Wrong = time.Since(began)
		t.params.Repaired(repair)
	}
	return nil
}

// differs counts the flows and groups in which two pictures differ.
func (m *mirror) differs(o *mirror) (flows, groups int) {
	return abs(len(m.foreign)-len(o.foreign)) + differ(m.flows, o.flows), differ(m.groups, o.groups)
}

func differ[K, V comparable](a, b map[K]V) int {
	n := 0
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			n++
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			n++
		}
	}
	return n
}

func abs(n int) int { return max(n, -n) }
