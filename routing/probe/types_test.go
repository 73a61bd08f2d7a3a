// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNormalize(t *testing.T) {
	ok := aConf.Targets[0]
	change := func(f func(*Target)) Target { c := ok; f(&c); return c }
	for _, test := range []struct {
		name string
		c    Config
		want string // the error, empty: none
	}{
		{"good", aConf, ""},
		{"two local", Config{Local: []netip.Addr{a4, b4}}, "probe address 10.0.2.254 is the second one of IPv4"},
		{"no local", Config{Targets: []Target{ok}}, "probe of b: there is no IPv4 address to probe from"},
		{"local is no host", Config{Local: []netip.Addr{addr("0.0.0.0")}}, `probe address "0.0.0.0" is not the address of a host`},
		{"family", Config{Local: []netip.Addr{a4, a6}, Targets: []Target{change(func(t *Target) { t.Address = b6 })}},
			`probe of b: "2001:db8:2::fe" is not the IPv4 address of a host`},
		{"small", Config{Local: []netip.Addr{a4}, Targets: []Target{change(func(t *Target) { t.Size = 51 })}},
			"probe of b: packets of 51 bytes, allowed are 52 to 65535"},
		{"twice", Config{Local: []netip.Addr{a4}, Targets: []Target{ok, change(func(t *Target) { t.Address = addr("10.0.3.1") })}},
			"probe of b: there are two targets of IPv4"},
		{"two of an address", Config{Local: []netip.Addr{a4}, Targets: []Target{ok, change(func(t *Target) { t.Node = "c" })}},
			"probe of c: address 10.0.2.254 is taken"},
		{"ourselves", Config{Local: []netip.Addr{a4}, Targets: []Target{change(func(t *Target) { t.Address = a4 })}},
			"probe of b: address 10.0.1.254 is taken"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.c.normalize()
			got := ""
			if err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
