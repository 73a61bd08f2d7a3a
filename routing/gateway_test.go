// SPDX-License-Identifier: Apache-2.0

package routing

import "testing"

func TestDefaultGateway(t *testing.T) {
	via := func(prefix string, metric int, gateways ...string) Route {
		r := Route{Prefix: pfx(prefix), Metric: metric}
		for _, a := range addrList(gateways...) {
			r.NextHops = append(r.NextHops, NextHop{Addr: a, Interface: "eth0"})
		}
		return r
	}
	four, six := via("0.0.0.0/0", 100, "192.0.2.254"), via("::/0", 1024, "2001:db8::fe")
	device := Route{Prefix: pfx("0.0.0.0/0"), NextHops: []NextHop{{Interface: "ppp0"}}}
	tests := map[string]struct {
		routes   []Route
		families []Family
		want     string
		err      string
	}{
		"IPv4 before IPv6": {routes: []Route{six, four}, want: "192.0.2.254"},
		"IPv6 alone":       {routes: []Route{six, via("0.0.0.0/1", 0, "192.0.2.1")}, want: "2001:db8::fe"},
		"as asked for":     {routes: []Route{four, six}, families: []Family{IPv6}, want: "2001:db8::fe"},
		"the least metric": {routes: []Route{four, via("0.0.0.0/0", 50, "192.0.2.253")}, want: "192.0.2.253"},
		"none":             {err: "the node has no default route with a gateway that was not learned over BGP"},
		"none of a family": {routes: []Route{four}, families: []Family{IPv6}, err: "the node has no default route with a gateway that was not learned over BGP"},
		"no gateway":       {routes: []Route{device}, err: "the node has no default route with a gateway that was not learned over BGP"},
		"two": {routes: []Route{via("0.0.0.0/0", 0, "192.0.2.1", "192.0.2.2")},
			err: "the default route has 2 gateways: give each its own BGPPeer with address"},
		"link-local": {routes: []Route{via("::/0", 1024, "fe80::1")},
			err: "the default gateway fe80::1 is a link-local address, with which sessions are not supported"},
		"IPv4 link-local": {routes: []Route{via("0.0.0.0/0", 0, "169.254.1.1")}, want: "169.254.1.1"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := DefaultGateway(tc.routes, tc.families)
			if err != nil && err.Error() != tc.err || err == nil && (tc.err != "" || got.String() != tc.want) {
				t.Errorf("%s, %v; want %s%s", got, err, tc.want, tc.err)
			}
		})
	}
}
