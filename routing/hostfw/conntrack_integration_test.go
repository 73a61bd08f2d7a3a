// SPDX-License-Identifier: Apache-2.0

//go:build integration

package hostfw

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
)

// TestUDPFollowsRules: one socket of a client that sends all the time meets
// NodePorts and aliases that come, change and go.
func TestUDPFollowsRules(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
				usePrograms(t, kind.program)
				w, _ := serviceWorld(t, node)
				fw := NewServices(Params{Backend: kind.backend})
				clients := map[string]net.PacketConn{}
				if err := w.outside.Do(func() error {
					for _, a := range []string{"172.30.0.99", "fd30::99"} {
						c, err := net.ListenPacket("udp", net.JoinHostPort(a, "5000"))
						if err != nil {
							return err
						}
						t.Cleanup(func() { _ = c.Close() })
						clients[a] = c
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				ask := func(from, to string, port int, within time.Duration) string {
					c := clients[from]
					if _, err := c.WriteTo([]byte("?"), &net.UDPAddr{IP: net.ParseIP(to), Port: port}); err != nil {
						t.Fatal(err)
					}
					_ = c.SetReadDeadline(time.Now().Add(within))
					b := make([]byte, 100)
					n, _, err := c.ReadFrom(b)
					if err != nil {
						return ""
					}
					return string(b[:n])
				}
				const silence, deadline = 100 * time.Millisecond, 3 * time.Second
				changed := Result{Backend: kind.backend, Changed: true}
				served := nodePorts(ServicePort{udp, 30080})
				for _, step := range []struct {
					name   string
					rules  ServiceRules
					v4, v6 string
					port   int
				}{
					{"NodePort", served, "169.254.87.78", "100::574e", 30080},
					{"alias", withAliases(served), "169.254.96.1", "100::574e:0:1", 443},
				} {
					for _, p := range [][3]string{{"172.30.0.99", "172.30.0.11", step.v4}, {"fd30::99", "fd30::11", step.v6}} {
						if got := ask(p[0], p[1], step.port, silence); got != "" {
							t.Fatalf("%s: before its time: %q", step.name, got)
						}
					}
					mustApply(t, fw, step.rules, changed)
					for _, p := range [][3]string{{"172.30.0.99", "172.30.0.11", step.v4}, {"fd30::99", "fd30::11", step.v6}} {
						if got, want := ask(p[0], p[1], step.port, deadline), fmt.Sprintf("%s asked by %s", p[2], p[0]); got != want {
							t.Errorf("%s: %q, want %q", step.name, got, want)
						}
					}
				}
				mustApply(t, fw, ServiceRules{}, changed)
				if got := ask("172.30.0.99", "172.30.0.11", 30080, silence); got != "" {
					t.Errorf("after the end of the Service: %q", got)
				}
			})
		})
	}
}
