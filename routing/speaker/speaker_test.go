// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"net/netip"
	"testing"
)

// TestNothingIsWantedYet: sessions that were resumed wait for the first
// configuration. BFD, which does not run here, would be asked to end them.
func TestNothingIsWantedYet(t *testing.T) {
	s := New(Params{})
	s.begun["tor"] = netip.MustParseAddr("192.0.2.1")
	if err := s.watch(t.Context()); err != nil || len(s.begun) != 1 {
		t.Errorf("begun %v, %v", s.begun, err)
	}
}
