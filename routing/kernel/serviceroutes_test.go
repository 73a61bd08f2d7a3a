// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

var (
	via4 = netip.MustParseAddr("169.254.87.78")
	via6 = netip.MustParseAddr("100::574e")
)

func addrsOf(s string) []netip.Addr {
	var out []netip.Addr
	for _, f := range strings.Fields(s) {
		out = append(out, netip.MustParseAddr(f))
	}
	return out
}

func TestWantedServiceRoutes(t *testing.T) {
	tests := []struct {
		name, addrs, own string
		only4            bool
		want             string
		local            int
		err              string
	}{
		{name: "nothing"},
		{name: "the hop first, each once", addrs: "10.96.0.1 10.96.0.2 10.96.0.1", want: "169.254.87.78 10.96.0.1 10.96.0.2"},
		{name: "families", addrs: "10.96.0.1 fd00:96::1", want: "169.254.87.78 100::574e 10.96.0.1 fd00:96::1"},
		{name: "the hop itself", addrs: "169.254.87.78", want: "169.254.87.78"},
		{name: "the node's own", addrs: "172.30.0.11 fd30::11 10.96.0.1", own: "172.30.0.11 fd30::11", want: "169.254.87.78 10.96.0.1", local: 2},
		{name: "no hop of a family", addrs: "fd00:96::1 10.96.0.1", only4: true, want: "169.254.87.78 10.96.0.1", err: "fd00:96::1: there is no next hop"},
		{name: "impossible", addrs: "127.0.0.1 0.0.0.0 224.0.0.1 ::ffff:10.0.0.1 fe80::1%eth0 ff02::1 10.96.0.1", want: "169.254.87.78 10.96.0.1", err: "and 1 more"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := ServiceRoutes{Via: []netip.Addr{via6, via4}}
			if tt.only4 {
				s.Via = s.Via[1:]
			}
			own := map[netip.Addr]bool{}
			for _, a := range addrsOf(tt.own) {
				own[a] = true
			}
			got, local, err := s.wanted(addrsOf(tt.addrs), own, 7)
			var names []string
			for _, r := range got {
				names = append(names, r.prefix.Addr().String())
				hop := r.prefix.Addr() == via4 || r.prefix.Addr() == via6
				if !r.prefix.IsSingleIP() || r.index != 7 || r.metric != 50 || r.via.IsValid() == hop || !hop && r.via.Is4() != r.prefix.Addr().Is4() {
					t.Errorf("route %+v", r)
				}
			}
			if d := cmp.Diff(tt.want, strings.Join(names, " ")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if local != tt.local || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%d local, %v; want %d, %q", local, err, tt.local, tt.err)
			}
		})
	}
}

func TestDiffHostRoutes(t *testing.T) {
	r := func(a string) hostRoute {
		return hostRoute{prefix: pfx(a), via: via4, index: 7, metric: 50}
	}
	scoped, elsewhere, odd := r("10.96.0.1/32"), r("10.96.0.2/32"), r("10.96.0.3/32")
	wide, narrow := r("10.96.0.5/32"), r("10.96.0.5/32")
	scoped.scope, elsewhere.index, odd.odd, wide.mtu, narrow.mtu = unix.RT_SCOPE_LINK, 8, true, 1500, 1450
	got := diffHostRoutes(
		[]hostRoute{r("10.96.0.1/32"), r("10.96.0.2/32"), r("10.96.0.3/32"), r("10.96.0.4/32"), narrow},
		[]hostRoute{scoped, elsewhere, odd, wide, r("10.96.0.9/32")})
	want := hostRouteChanges{
		add:       []hostRoute{r("10.96.0.2/32"), r("10.96.0.3/32"), r("10.96.0.4/32")},
		remove:    []hostRoute{elsewhere, odd, r("10.96.0.9/32")},
		replace:   []hostRoute{narrow},
		unchanged: 1,
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(hostRouteChanges{}, hostRoute{}), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func attribute(typ int, value []byte) []byte { return nl.NewRtAttr(typ, value).Serialize() }

func message(header []byte, attributes ...[]byte) []byte {
	for _, a := range attributes {
		header = append(header, a...)
	}
	return header
}

func TestParseHostRoute(t *testing.T) {
	header4 := func() []byte { return []byte{unix.AF_INET, 32, 0, 0, 254, ServiceProtocol, 0, 1, 4, 0, 0, 0} }
	dst, gw := attribute(unix.RTA_DST, []byte{10, 96, 0, 1}), attribute(unix.RTA_GATEWAY, via4.AsSlice())
	oif, prio := attribute(unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, 7)), attribute(unix.RTA_PRIORITY, binary.NativeEndian.AppendUint32(nil, 50))
	foreign, blackhole, host := header4(), header4(), header4()
	foreign[5], blackhole[7], host[8] = 4, unix.RTN_BLACKHOLE, 0
	good := hostRoute{prefix: pfx("10.96.0.1/32"), via: via4, index: 7, metric: 50}
	notOnLink, dark := good, hostRoute{prefix: pfx("10.96.0.1/32"), typ: unix.RTN_BLACKHOLE}
	notOnLink.odd = true
	narrow := good
	narrow.mtu = 1450
	mtu := attribute(unix.RTAX_MTU, binary.NativeEndian.AppendUint32(nil, 1450))
	for _, tt := range []struct {
		name string
		in   []byte
		want hostRoute
		ok   bool
	}{
		{"ours", message(header4(), dst, gw, oif, prio), good, true},
		{"not on-link", message(host, dst, gw, oif, prio), notOnLink, true},
		{"with a source", message(header4(), dst, gw, oif, prio, attribute(unix.RTA_PREFSRC, []byte{10, 0, 0, 1})), notOnLink, true},
		{"with an MTU", message(header4(), dst, gw, oif, prio, attribute(unix.RTA_METRICS, mtu)), narrow, true},
		{"with more than an MTU", message(header4(), dst, gw, oif, prio, attribute(unix.RTA_METRICS, slices.Concat(mtu, mtu))), notOnLink, true},
		{"another type", message(blackhole, dst), dark, true},
		{"another protocol", message(foreign, dst, gw, oif, prio), hostRoute{}, false},
		{"cut off", message(header4(), dst[:6]), hostRoute{}, false},
		{"another family", message(header4(), attribute(unix.RTA_DST, via6.AsSlice())), hostRoute{}, false},
		{"short", make([]byte, 11), hostRoute{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseHostRoute(tt.in)
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("got %+v, %v; want %+v", got, ok, tt.want)
			}
		})
	}
}

func FuzzParseHostRoute(f *testing.F) {
	f.Add(message([]byte{unix.AF_INET, 32, 0, 0, 254, ServiceProtocol, 0, 1, 4, 0, 0, 0}, attribute(unix.RTA_DST, []byte{10, 96, 0, 1})))
	f.Add(message([]byte{unix.AF_INET6, 128, 0, 0, 254, ServiceProtocol, 0, 1, 0, 0, 0, 0}, attribute(unix.RTA_DST, via6.AsSlice())))
	f.Fuzz(func(t *testing.T, m []byte) {
		if r, ok := parseHostRoute(m); ok && (!r.prefix.IsValid() || r.prefix.Addr().Is4() != (m[0] == unix.AF_INET)) {
			t.Errorf("%x: %+v", m, r)
		}
	})
}
