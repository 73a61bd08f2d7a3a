// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"errors"
	"fmt"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
)

// Patch is openflow.Target.Patch.
func (s *Switch) Patch(changes ...flow.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault != nil {
		return fmt.Errorf("patch: %w", s.fault)
	}
	if err := s.checkPatch(changes); err != nil {
		return fmt.Errorf("patch: %w", err)
	}
	for _, c := range changes {
		for _, k := range c.Remove {
			s.take(k)
		}
	}
	for _, c := range changes {
		for _, f := range c.Set {
			s.put(c.Owner, f)
		}
	}
	for _, c := range changes {
		s.tidy(c.Owner)
	}
	return nil
}

func (s *Switch) checkPatch(changes []flow.Change) error {
	var errs []error
	conflict := func(owner string, k flow.Key) {
		if old, ok := s.flows[k]; ok && old.owner != owner {
			errs = append(errs, &openflow.ConflictError{Owner: owner, Other: old.owner, Entry: "flow " + k.String()})
		}
	}
	removed := map[flow.Key]bool{}
	for _, c := range changes {
		for _, k := range c.Remove {
			conflict(c.Owner, k)
			removed[k] = true
		}
	}
	known := map[uint32]bool{}
	for id := range s.groups {
		known[id] = true
	}
	seen, setBy := map[flow.Key]bool{}, map[flow.Key]string{}
	for _, c := range changes {
		for _, f := range c.Set {
			k := f.Key()
			if !removed[k] {
				conflict(c.Owner, k)
			}
			errs = append(errs, s.checkFlow(f, k, seen, known))
			setBy[k] = c.Owner
		}
	}
	for _, c := range changes {
		for _, k := range c.Remove {
			if owner, ok := setBy[k]; ok && owner == c.Owner {
				errs = append(errs, fmt.Errorf("flow %s is both set and removed", k))
			}
		}
	}
	return errors.Join(errs...)
}
