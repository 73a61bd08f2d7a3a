// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/waymark-net/waymark/routing"
)

// TestConvergedAfterTheRestartTime: a peer that does not come is waited for as
// long as the restart time, one that came at the last moment until it has sent
// its routes.
func TestConvergedAfterTheRestartTime(t *testing.T) {
	const restart = 30 * time.Second
	a := netip.MustParseAddr("192.0.2.1")
	start := time.Now()
	up := func(after time.Duration, ended ...routing.Family) sighting {
		s := sighting{up: true, since: start.Add(after), restarts: true,
			families: map[routing.Family]bool{routing.IPv4: true, routing.IPv6: true}, endOfRIB: map[routing.Family]bool{}}
		for _, f := range ended {
			s.endOfRIB[f] = true
		}
		return s
	}
	for _, tt := range []struct {
		name  string
		seen  sighting
		after time.Duration
		want  bool
	}{
		{"never up, before the restart time", sighting{}, restart - time.Second, false},
		{"never up", sighting{}, restart, true},
		{"all sent", up(time.Second, routing.IPv4, routing.IPv6), 2 * time.Second, true},
		{"one family sent", up(time.Second, routing.IPv4), 2 * time.Second, false},
		{"up at the last moment, sending", up(restart-time.Second, routing.IPv4), restart, false},
		{"up at the last moment, all sent", up(restart-time.Second, routing.IPv4, routing.IPv6), restart, true},
		{"up at the last moment, never done", up(restart - time.Second), restart - time.Second + noEndOfRIB, true},
		{"up for long, never done", up(time.Second), restart, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWatch()
			w.peers[a] = &tt.seen
			i := &instance{
				config: routing.SpeakerConfig{GracefulRestart: routing.GracefulRestart{RestartTime: restart}},
				watch:  w,
				peers:  map[netip.Addr]*peer{a: {learned: learned{added: start}}},
			}
			if got := i.converged(start.Add(tt.after)); got != tt.want {
				t.Errorf("converged: %v, want %v", got, tt.want)
			}
		})
	}
}
