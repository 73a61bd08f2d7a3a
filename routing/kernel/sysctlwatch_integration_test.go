// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kernel

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

// TestSysctlWatcher repairs upon notifications, as the agent does: at once what the
// kernel tells of, and soon what it does not.
func TestSysctlWatcher(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		rack(t, node)
		p := SysctlParams{
			Gateway: "wm-gw0", Interfaces: []string{"eth0"}, Switched: "eth1",
			Families: []routing.Family{routing.IPv4, routing.IPv6},
		}
		for _, tt := range []struct {
			name     string
			interval time.Duration
			sysctls  []sysctl // as they are wrong
		}{
			{"told", time.Hour, []sysctl{
				{"net/ipv4/conf/wm-gw0/forwarding", "0"}, {"net/ipv4/conf/wm-gw0/rp_filter", "1"},
				{"net/ipv4/conf/eth0/ignore_routes_with_linkdown", "0"}, {"net/ipv4/conf/all/forwarding", "0"},
				{"net/ipv6/conf/all/forwarding", "0"}, {"net/ipv4/conf/eth1/forwarding", "1"},
			}},
			{"found", 100 * time.Millisecond, []sysctl{
				{"net/ipv6/conf/wm-gw0/accept_ra", "1"}, {"net/ipv6/conf/wm-gw0/disable_ipv6", "1"},
				{"net/ipv4/conf/eth1/arp_ignore", "0"},
			}},
		} {
			dirty := make(chan []string, 1)
			w := NewSysctlWatcher(SysctlWatcherParams{Interval: tt.interval, Notify: func(paths []string) {
				select {
				case dirty <- paths:
				default:
				}
			}})
			ensure := func() error {
				_, err := EnsureSysctls(t.Context(), p)
				w.Watch(p)
				return err
			}
			if err := ensure(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 2)
			go func() { ended <- w.Run(ctx) }()
			go func() {
				for {
					select {
					case <-ctx.Done():
						ended <- nil
						return
					case <-dirty:
						if err := ensure(); err != nil {
							t.Error(err)
						}
					}
				}
			}()
			for _, s := range tt.sysctls {
				testnet.WaitFor(t, 5*time.Second, func() error { // the socket may not listen yet
					node.Exec(t, fmt.Sprintf("sysctl -q -w %s=%s", strings.ReplaceAll(s.path, "/", "."), s.value))
					within := time.Now().Add(500 * time.Millisecond)
					for {
						wrong := driftedSysctls(p)
						if len(wrong) == 0 {
							return nil
						}
						if time.Now().After(within) {
							return fmt.Errorf("%s: %v are wrong", tt.name, wrong)
						}
						time.Sleep(time.Millisecond)
					}
				})
			}
			cancel()
			for range 2 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}
	})
}
