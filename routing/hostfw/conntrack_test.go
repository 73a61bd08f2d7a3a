// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func normal(t *testing.T, r ServiceRules) serviceRules {
	t.Helper()
	out, err := r.normal()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestChangedUDP(t *testing.T) {
	for _, tt := range []struct {
		name     string
		from, to ServiceRules
		want     []uint16
	}{
		{"nothing", fullServices(), fullServices(), nil},
		{"from nothing", ServiceRules{}, fullServices(), []uint16{53, 30053}},
		{"to nothing", fullServices(), ServiceRules{}, []uint16{53, 30053}},
		{"TCP only", fullServices(), changedServices(func(r *ServiceRules) { r.NodePorts = append(r.NodePorts, ServicePort{tcp, 30099}) }), nil},
		{"one port more", fullServices(), changedServices(func(r *ServiceRules) { r.NodePorts = append(r.NodePorts, ServicePort{udp, 30099}) }), []uint16{30099}},
		{"another alias", fullServices(), changedServices(func(r *ServiceRules) { r.Aliases[1].To = netip.MustParseAddr("169.254.96.7") }), []uint16{53}},
		{"other addresses", fullServices(), changedServices(func(r *ServiceRules) { r.NodePortAddrs = prefixes("10.0.0.0/8") }), []uint16{53, 30053}},
		{"without IPv6", fullServices(), changedServices(func(r *ServiceRules) { r.To6 = netip.Addr{} }), []uint16{30053}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := slices.Sorted(maps.Keys(changedUDP(normal(t, tt.from), normal(t, tt.to))))
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestStale(t *testing.T) {
	rules := fullServices()
	rules.NodePortAddrs = prefixes("172.30.0.0/24")
	tr := translations{
		local:   map[netip.Addr]bool{},
		changed: map[uint16]bool{53: true, 30053: true, 30080: true},
		want:    normal(t, rules),
	}
	for _, a := range addrs("172.30.0.11", "10.0.0.1", "127.0.0.1", "fd30::11", "fe80::1") {
		tr.local[a] = true
	}
	for _, tt := range []struct {
		name, dst, to string
		want          bool
	}{
		{"not translated yet", "172.30.0.11:30053", "172.30.0.11", true},
		{"as it should be", "172.30.0.11:30053", "169.254.87.78", false},
		{"not an address of NodePorts", "10.0.0.1:30053", "10.0.0.1", false},
		{"not an address of NodePorts any more", "10.0.0.1:30053", "169.254.87.78", true},
		{"loopback", "127.0.0.1:30053", "127.0.0.1", false},
		{"link-local", "[fe80::1]:30053", "fe80::1", false},
		{"IPv6", "[fd30::11]:30053", "fd30::11", true},
		{"another host's", "172.30.0.99:30053", "172.30.0.99", false},
		{"NodePort of TCP", "172.30.0.11:30080", "172.30.0.11", false},
		{"alias", "172.30.0.11:53", "169.254.96.1", false},
		{"former alias", "172.30.0.11:53", "169.254.96.2", true},
		{"port without a change", "172.30.0.11:30099", "169.254.87.78", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tr.stale(netip.MustParseAddrPort(tt.dst), netip.MustParseAddr(tt.to)); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func attr(typ int, value ...byte) []byte { return nl.NewRtAttr(typ, value).Serialize() }

// flowMessage is a connection as the kernel describes it.
func flowMessage(protocol uint8, src, dst, replySrc string, port uint16, more ...byte) []byte {
	tuple := func(typ int, src, dst string) []byte {
		s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
		from, to := nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
		if s.Is6() {
			from, to = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
		}
		ip := attr(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, slices.Concat(attr(from, s.AsSlice()...), attr(to, d.AsSlice()...))...)
		proto := attr(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED, slices.Concat(
			attr(nl.CTA_PROTO_NUM, protocol), attr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, port)...))...)
		return attr(typ|unix.NLA_F_NESTED, slices.Concat(ip, proto)...)
	}
	return slices.Concat([]byte{unix.AF_INET, 0, 0, 0}, tuple(nl.CTA_TUPLE_ORIG, src, dst), tuple(nl.CTA_TUPLE_REPLY, replySrc, src), more)
}

func TestParseUDPFlow(t *testing.T) {
	good := flowMessage(udp, "172.30.0.99", "172.30.0.11", "169.254.87.78", 30053)
	for _, tt := range []struct {
		name    string
		in      []byte
		dst, to string // "" if it does not count
	}{
		{"IPv4", good, "172.30.0.11:30053", "169.254.87.78"},
		{"IPv6", flowMessage(udp, "fd30::99", "fd30::11", "100::574e", 30053), "[fd30::11]:30053", "100::574e"},
		{"TCP", flowMessage(tcp, "172.30.0.99", "172.30.0.11", "169.254.87.78", 30053), "", ""},
		{"a zone of the switch", flowMessage(udp, "172.30.0.99", "172.30.0.11", "169.254.87.78", 30053, attr(nl.CTA_ZONE, 0xff, 0xf4)...), "", ""},
		{"cut off", good[:30], "", ""},
		{"short", good[:3], "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, ok := parseUDPFlow(tt.in)
			if ok != (tt.dst != "") || ok && (f.dst.String() != tt.dst || f.to.String() != tt.to || len(f.tuple) == 0) {
				t.Errorf("got %+v, %v", f, ok)
			}
		})
	}
}

func FuzzParseUDPFlow(f *testing.F) {
	f.Add(flowMessage(udp, "172.30.0.99", "172.30.0.11", "169.254.87.78", 30053))
	f.Add(flowMessage(udp, "fd30::99", "fd30::11", "100::574e", 30053, 1, 2, 3))
	f.Fuzz(func(t *testing.T, m []byte) {
		if flow, ok := parseUDPFlow(m); ok && (!flow.dst.IsValid() || !flow.to.IsValid()) {
			t.Errorf("%x: %+v", m, flow)
		}
	})
}
