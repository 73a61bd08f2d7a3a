// SPDX-License-Identifier: Apache-2.0

package encap

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/routing"
)

var (
	v4   = []routing.Family{routing.IPv4}
	v6   = []routing.Family{routing.IPv6}
	dual = []routing.Family{routing.IPv4, routing.IPv6}
)

func addrs(ss ...string) []netip.Addr {
	out := make([]netip.Addr, 0, len(ss))
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestDefaultPort(t *testing.T) {
	got := map[TunnelType]uint16{}
	for _, tt := range []TunnelType{Geneve, VXLAN, "gre"} {
		got[tt] = tt.DefaultPort()
	}
	want := map[TunnelType]uint16{Geneve: 6081, VXLAN: 4789, "gre": 0}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("DefaultPort (-want +got):\n%s", d)
	}
}

func TestSelectEndpoint(t *testing.T) {
	tests := []struct {
		name          string
		underlay      Underlay
		local, remote []netip.Addr
		want          string // "local remote", empty: ErrNoEndpoint
	}{
		{"auto prefers IPv4", UnderlayAuto, addrs("fd00::1", "192.0.2.1"), addrs("fd00::2", "192.0.2.2"), "192.0.2.1 192.0.2.2"},
		{"auto falls to IPv6", UnderlayAuto, addrs("192.0.2.1", "fd00::1"), addrs("fd00::2"), "fd00::1 fd00::2"},
		{"auto without common family", UnderlayAuto, addrs("192.0.2.1"), addrs("fd00::2"), ""},
		{"ipv6 asked for", UnderlayIPv6, addrs("192.0.2.1", "fd00::1"), addrs("192.0.2.2", "fd00::2"), "fd00::1 fd00::2"},
		{"ipv6 asked for, remote has none", UnderlayIPv6, addrs("192.0.2.1", "fd00::1"), addrs("192.0.2.2"), ""},
		{"ipv4 asked for", UnderlayIPv4, addrs("fd00::1", "192.0.2.1"), addrs("fd00::2", "192.0.2.2"), "192.0.2.1 192.0.2.2"},
		{"ipv4 asked for, local has none", UnderlayIPv4, addrs("fd00::1"), addrs("192.0.2.2"), ""},
		{"link-local, loopback and zones passed over", UnderlayAuto,
			addrs("169.254.1.1", "127.0.0.1", "fe80::1%eth0", "fd00::1"), addrs("ff02::1", "::", "fd00::2"), "fd00::1 fd00::2"},
		{"mapped addresses are IPv4", UnderlayIPv4, addrs("::ffff:192.0.2.1"), addrs("192.0.2.2"), "192.0.2.1 192.0.2.2"},
		{"unknown underlay", "ipx", addrs("192.0.2.1"), addrs("192.0.2.2"), ""},
		{"no address", UnderlayAuto, nil, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := SelectEndpoint(tt.underlay, tt.local, tt.remote)
			if tt.want == "" {
				if !errors.Is(err, ErrNoEndpoint) {
					t.Fatalf("got %v, %v, want ErrNoEndpoint", e, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := e.Local.String() + " " + e.Remote.String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			back, err := SelectEndpoint(tt.underlay, tt.remote, tt.local)
			if err != nil || back.Local != e.Remote || back.Remote != e.Local {
				t.Errorf("the other end picks %v, %v", back, err)
			}
		})
	}
}

func TestUnderlayFamilies(t *testing.T) {
	both, only4, only6 := addrs("192.0.2.1", "fd00::1"), addrs("192.0.2.2"), addrs("fd00::3")
	tests := []struct {
		name     string
		underlay Underlay
		local    []netip.Addr
		peers    [][]netip.Addr
		want     []routing.Family
	}{
		{"alone, dual", UnderlayAuto, both, nil, v4},
		{"alone, IPv6 only", UnderlayAuto, only6, nil, v6},
		{"alone, underlay impossible", UnderlayIPv6, only4, nil, nil},
		{"dual peers", UnderlayAuto, both, [][]netip.Addr{both, both}, v4},
		{"mixed peers", UnderlayAuto, both, [][]netip.Addr{only6, only4}, dual},
		{"unreachable peer does not count", UnderlayAuto, only4, [][]netip.Addr{only6, both}, v4},
		{"forced IPv6", UnderlayIPv6, both, [][]netip.Addr{both}, v6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, UnderlayFamilies(tt.underlay, tt.local, tt.peers)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestPodMTU(t *testing.T) {
	tests := []struct {
		name string
		in   MTUParams
		want int
		err  string // part of the error
	}{
		{"noEncap", MTUParams{Mode: routing.ModeNoEncap, Uplink: 1500, Underlay: dual, Pod: dual}, 1500, ""},
		{"encap over IPv4", MTUParams{Mode: routing.ModeEncap, Uplink: 1500, Underlay: v4, Pod: dual}, 1450, ""},
		{"encap over IPv6", MTUParams{Mode: routing.ModeEncap, Uplink: 1500, Underlay: v6, Pod: v4}, 1430, ""},
		{"encap over both", MTUParams{Mode: routing.ModeEncap, Uplink: 1500, Underlay: dual, Pod: v4}, 1430, ""},
		{"hybrid", MTUParams{Mode: routing.ModeHybrid, Uplink: 9000, Underlay: v4, Pod: v4}, 8950, ""},
		{"odd", MTUParams{Mode: routing.ModeEncap, Uplink: 1411, Underlay: v4, Pod: v6}, 1361, ""},
		{"configured", MTUParams{Mode: routing.ModeEncap, Uplink: 1500, Configured: 1400, Underlay: v4, Pod: dual}, 1400, ""},
		{"configured to the byte", MTUParams{Mode: routing.ModeEncap, Uplink: 1500, Configured: 1450, Underlay: v4, Pod: dual}, 1450, ""},
		{"configured too large", MTUParams{Mode: routing.ModeEncap, Uplink: 1500, Configured: 1451, Underlay: v4, Pod: dual}, 1450, "leaves 1450"},
		{"configured below IPv6", MTUParams{Mode: routing.ModeNoEncap, Uplink: 1500, Configured: 1279, Pod: dual}, 1500, "IPv6 allows 1280"},
		{"configured low, IPv4", MTUParams{Mode: routing.ModeNoEncap, Uplink: 1500, Configured: 1000, Pod: v4}, 1000, ""},
		{"configured below IPv4", MTUParams{Mode: routing.ModeNoEncap, Uplink: 1500, Configured: 575, Pod: v4}, 1500, "IPv4 allows 576"},
		{"smallest IPv6 in a tunnel", MTUParams{Mode: routing.ModeEncap, Uplink: 1330, Underlay: v4, Pod: v6}, 1280, ""},
		{"too small for IPv6 in a tunnel", MTUParams{Mode: routing.ModeEncap, Uplink: 1329, Underlay: v4, Pod: v6}, 1279, "uplink of MTU 1329"},
		{"loopback's MTU", MTUParams{Mode: routing.ModeNoEncap, Uplink: 65536, Pod: v4}, 65536, "MTU 65536"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := PodMTU(tt.in)
			if got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("unexpected error: %v", err)
			case tt.err != "" && (!errors.Is(err, ErrMTU) || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("got error %v, want ErrMTU with %q", err, tt.err)
			}
		})
	}
}

func TestTunnelMTU(t *testing.T) {
	if got := TunnelMTU(1500, routing.IPv4); got != 1450 {
		t.Errorf("over IPv4: got %d, want 1450", got)
	}
	if got := TunnelMTU(1500, routing.IPv6); got != 1430 {
		t.Errorf("over IPv6: got %d, want 1430", got)
	}
}
