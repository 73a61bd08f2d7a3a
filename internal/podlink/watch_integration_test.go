// SPDX-License-Identifier: Apache-2.0

//go:build integration

package podlink

import (
	"context"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
)

// TestRepairUponEvents repairs when it is told, as the agent does, both ends.
func TestRepairUponEvents(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		pod := testnet.New(t, "pod")
		link := testLink(pod, "c1")
		mustCreate(t, link)
		dirty, listening := make(chan Event, 100), make(chan struct{}, 1)
		w := NewWatcher(WatcherParams{
			Notify: func(e Event) {
				if e.Pod && e.MTU != link.MTU || !e.Pod && (e.MTU != link.HostMTU || !e.Up) {
					dirty <- e
				}
			},
			Lost: func() { listening <- struct{}{} },
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		<-listening
		for _, tt := range []struct {
			ns     *testnet.Namespace
			script string
			want   Event
		}{
			{node, "ip link set " + link.HostInterface + " mtu 1400", Event{link.HostInterface, false, 1400, true}},
			{node, "ip link set " + link.HostInterface + " down", Event{link.HostInterface, false, 1500, false}},
			{pod, "ip link set eth0 mtu 1300", Event{"eth0", true, 1300, true}},
		} {
			tt.ns.Exec(t, tt.script)
			select {
			case got := <-dirty:
				if got != tt.want {
					t.Errorf("%s: event %+v, want %+v", tt.script, got, tt.want)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%s: no event", tt.script)
			}
			for len(dirty) > 0 {
				<-dirty
			}
			if changed, err := (Links{}).Repair(t.Context(), link); err != nil || len(changed) == 0 {
				t.Errorf("%s: repaired %q, %v", tt.script, changed, err)
			}
			if err := (Links{}).Check(t.Context(), link); err != nil {
				t.Errorf("%s: %v", tt.script, err)
			}
			if changed, err := (Links{}).Repair(t.Context(), link); err != nil || len(changed) > 0 {
				t.Errorf("%s: second time: %q, %v", tt.script, changed, err)
			}
		}
		node.Exec(t, "sysctl -q -w net.ipv4.conf.all.forwarding=1")
		if changed, err := (Links{}).Repair(t.Context(), link); err != nil || len(changed) != 1 {
			t.Errorf("sysctls: repaired %q, %v", changed, err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
