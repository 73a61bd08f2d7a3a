// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/waymark-net/waymark/routing"
)

func TestDiffNeighbours(t *testing.T) {
	mac, other := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	a, b, c := netip.MustParseAddr("10.10.2.1"), netip.MustParseAddr("10.10.3.1"), netip.MustParseAddr("fd10:0:0:2::1")
	set, remove := diffNeighbours([]Neighbour{{a, mac}, {c, mac}}, []Neighbour{{a, other}, {b, mac}, {c, mac}})
	if diff := cmp.Diff([]Neighbour{{a, mac}}, set, equateNetip); diff != "" {
		t.Errorf("set (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]netip.Addr{b}, remove, equateNetip); diff != "" {
		t.Errorf("remove (-want +got):\n%s", diff)
	}
}

func TestDiffAddresses(t *testing.T) {
	add, remove := diffAddresses(
		[]netip.Prefix{pfx("10.10.1.1/24"), pfx("fd10:0:0:1::1/64")},
		addresses("10.10.1.1/16", "fd10:0:0:1::1/64", "fe80::1/64", "169.254.0.1/16"))
	if diff := cmp.Diff([]netip.Prefix{pfx("10.10.1.1/24")}, add, equateNetip); diff != "" {
		t.Errorf("add (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]netip.Prefix{pfx("10.10.1.1/16"), pfx("169.254.0.1/16")}, remove, equateNetip); diff != "" {
		t.Errorf("remove (-want +got):\n%s", diff)
	}
}

func TestSelectUplink(t *testing.T) {
	link := func(name string, addrs ...string) candidate {
		return candidate{Link: Link{Name: name}, addresses: addresses(addrs...), loopback: name == "lo"}
	}
	v4, v6 := netip.MustParseAddr("172.30.0.11"), netip.MustParseAddr("fd30::11")
	eth0, eth1, lo := link("eth0", "172.30.0.11/24"), link("eth1", "fd30::11/64"), link("lo", "172.30.0.11/32")
	bare, bridge := link("eth0"), link("br-ext", "172.30.0.11/24")
	tests := []struct {
		name  string
		p     UplinkParams
		found []candidate
		want  string
	}{
		{"by address", UplinkParams{NodeAddresses: []netip.Addr{v4}}, []candidate{eth1, eth0}, "eth0"},
		{"by the first address", UplinkParams{NodeAddresses: []netip.Addr{v6, v4}}, []candidate{eth0, eth1}, "eth1"},
		{"by name", UplinkParams{Interface: "eth1", NodeAddresses: []netip.Addr{v4}}, []candidate{eth0, eth1}, "eth1"},
		{"by name, moved", UplinkParams{Interface: "eth0", Bridge: "br-ext", NodeAddresses: []netip.Addr{v4}}, []candidate{bare, bridge}, "br-ext"},
		{"by address, moving", UplinkParams{Bridge: "br-ext", NodeAddresses: []netip.Addr{v4}}, []candidate{eth0, bridge}, "br-ext"},
		{"bridge without addresses", UplinkParams{Bridge: "br-ext", NodeAddresses: []netip.Addr{v4}}, []candidate{link("br-ext"), eth0}, "eth0"},
		{"no such name", UplinkParams{Interface: "eth7", NodeAddresses: []netip.Addr{v4}}, []candidate{eth0}, ""},
		{"no such address", UplinkParams{NodeAddresses: []netip.Addr{v6}}, []candidate{eth0}, ""},
		{"loopback", UplinkParams{NodeAddresses: []netip.Addr{v4}}, []candidate{lo}, ""},
		{"loopback, named", UplinkParams{Interface: "eth1", NodeAddresses: []netip.Addr{v4}}, []candidate{lo, eth1}, "eth1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := selectUplink(tt.p, tt.found)
			if got.Name != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("got %q, %v; want %q", got.Name, err, tt.want)
			}
		})
	}
}

func TestSysctls(t *testing.T) {
	both := []routing.Family{routing.IPv4, routing.IPv6}
	tests := []struct {
		name     string
		families []routing.Family
		have     map[string]string
		want     []string
	}{
		{
			name: "fresh node", families: both,
			have: map[string]string{
				"ipv4/conf/wm-gw0/forwarding": "0", "ipv4/conf/wm-gw0/rp_filter": "1",
				"ipv4/conf/eth0/forwarding": "0", "ipv4/conf/eth0/rp_filter": "2", "ipv4/conf/eth0/ignore_routes_with_linkdown": "0",
				"ipv6/conf/wm-gw0/disable_ipv6": "1", "ipv6/conf/wm-gw0/accept_ra": "1", "ipv6/conf/wm-gw0/accept_dad": "1",
				"ipv6/conf/eth0/accept_ra": "1", "ipv6/conf/eth0/forwarding": "0", "ipv6/conf/all/forwarding": "0",
			},
			want: []string{
				"net/ipv4/conf/wm-gw0/forwarding=1", "net/ipv4/conf/wm-gw0/rp_filter=2", "net/ipv4/conf/eth0/forwarding=1",
				"net/ipv4/conf/eth0/ignore_routes_with_linkdown=1",
				"net/ipv6/conf/wm-gw0/disable_ipv6=0", "net/ipv6/conf/wm-gw0/accept_ra=0", "net/ipv6/conf/wm-gw0/accept_dad=0",
				"net/ipv6/conf/eth0/accept_ra=2", "net/ipv6/conf/all/forwarding=1",
			},
		},
		{
			name: "a router that ignores advertisements", families: both,
			have: map[string]string{
				"ipv6/conf/eth0/accept_ra": "1", "ipv6/conf/eth0/forwarding": "1", "ipv6/conf/all/forwarding": "1",
			},
		},
		{
			name: "interfaces that are not concerned", families: both,
			have: map[string]string{
				"ipv6/conf/eth0/accept_ra": "2", "ipv6/conf/eth0/forwarding": "0",
				"ipv6/conf/eth1/accept_ra": "1", "ipv6/conf/eth1/forwarding": "0",
				"ipv6/conf/eth2/accept_ra": "0", "ipv6/conf/eth2/forwarding": "0",
				"ipv6/conf/default/accept_ra": "1", "ipv6/conf/default/forwarding": "0",
				"ipv6/conf/all/accept_ra": "1", "ipv6/conf/all/forwarding": "0",
			},
			want: []string{"net/ipv6/conf/eth1/accept_ra=2", "net/ipv6/conf/all/forwarding=1"},
		},
		{
			name: "an interface that is not concerned, of a router", families: both,
			have: map[string]string{
				"ipv6/conf/eth1/accept_ra": "1", "ipv6/conf/eth1/forwarding": "0", "ipv6/conf/all/forwarding": "1",
			},
		},
		{
			name: "IPv4 alone", families: both[:1],
			have: map[string]string{"ipv4/conf/eth0/forwarding": "0", "ipv6/conf/all/forwarding": "0"},
			want: []string{"net/ipv4/conf/eth0/forwarding=1"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for path, value := range tt.have {
				file := filepath.Join(root, "net", path)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			p := SysctlParams{Root: root, Gateway: "wm-gw0", Interfaces: []string{"eth0", "gone0"}, Families: tt.families}
			got, err := EnsureSysctls(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again, err := EnsureSysctls(t.Context(), p); err != nil || len(again) != 0 {
				t.Errorf("second time: %v, %v", again, err)
			}
		})
	}
}

func TestClassify(t *testing.T) {
	rtmsg := func(table, protocol byte) []byte {
		return []byte{unix.AF_INET, 24, 0, 0, table, protocol, 0, 1, 0, 0, 0, 0}
	}
	tests := []struct {
		name string
		typ  uint16
		data []byte
		want Change
		on   int
	}{
		{"link", unix.RTM_NEWLINK, nil, ChangedLinks, 0},
		{"address", unix.RTM_DELADDR, nil, ChangedAddresses, 0},
		{"own route gone", unix.RTM_DELROUTE, rtmsg(254, Protocol), ChangedRoutes, 0},
		{"own route new", unix.RTM_NEWROUTE, rtmsg(254, Protocol), 0, 0},
		{"route to a Service gone", unix.RTM_DELROUTE, rtmsg(254, ServiceProtocol), ChangedServiceRoutes, 0},
		{"route to a Service new", unix.RTM_NEWROUTE, rtmsg(254, ServiceProtocol), 0, 0},
		{"foreign route new", unix.RTM_NEWROUTE, rtmsg(254, 4), ChangedRoutes, 0},
		{"another table", unix.RTM_DELROUTE, rtmsg(255, 2), 0, 0},
		{"neighbour gone", unix.RTM_DELNEIGH, []byte{unix.AF_INET, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0}, ChangedNeighbours, 9},
		{"neighbour new", unix.RTM_NEWNEIGH, make([]byte, 12), 0, 0},
		{"short route", unix.RTM_NEWROUTE, make([]byte, 3), 0, 0},
		{"short neighbour", unix.RTM_DELNEIGH, make([]byte, 3), 0, 0},
	}
	for _, tt := range tests {
		got, on := classify(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: tt.typ}, Data: tt.data})
		if got != tt.want || on != tt.on {
			t.Errorf("%s: %b on %d, want %b on %d", tt.name, got, on, tt.want, tt.on)
		}
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(uint16(unix.RTM_DELROUTE), make([]byte, 12))
	f.Add(uint16(unix.RTM_DELNEIGH), make([]byte, 5))
	f.Fuzz(func(_ *testing.T, typ uint16, data []byte) {
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: typ}, Data: data}
		classify(m)
		linkName(m)
	})
}

func TestLinkName(t *testing.T) {
	named := append(make([]byte, unix.SizeofIfInfomsg), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("wm0123")).Serialize()...)
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"named", named, "wm0123"},
		{"without attributes", named[:unix.SizeofIfInfomsg], ""},
		{"cut off", named[:len(named)-6], ""},
		{"short", named[:5], ""},
	} {
		if got := linkName(syscall.NetlinkMessage{Data: tt.data}); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
