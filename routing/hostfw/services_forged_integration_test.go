// SPDX-License-Identifier: Apache-2.0

//go:build integration

package hostfw

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
)

// TestForgedNodeClient: nobody outside can take the source by which the switch
// knows the node.
func TestForgedNodeClient(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
				usePrograms(t, kind.program)
				w, _ := serviceWorld(t, node)
				for _, ns := range []*testnet.Namespace{node, w.pods} {
					ns.Exec(t, "sysctl -q -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0")
				}
				for _, c := range nodeClients() {
					w.outside.Exec(t, fmt.Sprintf("ip address add %s/%d dev lo", c.As, c.As.BitLen()))
				}
				fw, r := NewServices(Params{Backend: kind.backend}), nodePorts(ServicePort{udp, 30080})
				mustApply(t, fw, r, Result{Backend: kind.backend, Changed: true})
				arrives := map[string]string{"10.10.1.2": "172.30.0.99", "fd10:0:0:1::2": "fd30::99"}
				forged := map[string]string{"10.10.1.2": "169.254.87.79", "fd10:0:0:1::2": "100::574f"}
				check := func(what string, want map[string]string) {
					t.Helper()
					for to, genuine := range arrives {
						if got := firstOf(t, w, to, forged[to], genuine); got != want[to] {
							t.Errorf("%s: first of what is sent to %s comes from %s, want %s", what, to, got, want[to])
						}
					}
				}
				check("without the node as a client", forged)
				r.NodeClients = nodeClients()
				mustApply(t, fw, r, Result{Backend: kind.backend, Changed: true})
				check("with it", arrives)
			})
		})
	}
}

// firstOf sends a datagram from each of several addresses outside, in their order,
// and returns from whom the first one is that arrives at an address of the switch.
func firstOf(t *testing.T, w world, to string, from ...string) string {
	t.Helper()
	var l *net.UDPConn
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.pods.Do(func() (err error) {
		l, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(to), Port: 9999})
		return err
	}))
	defer l.Close()
	for _, a := range from {
		must(w.outside.Do(func() error {
			c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(a)}, &net.UDPAddr{IP: net.ParseIP(to), Port: 9999})
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = io.WriteString(c, "?")
			return err
		}))
	}
	must(l.SetReadDeadline(time.Now().Add(10 * time.Second)))
	_, first, err := l.ReadFromUDPAddrPort(make([]byte, 16))
	must(err)
	return first.Addr().Unmap().String()
}
