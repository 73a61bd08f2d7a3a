// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kernel

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/waymark-net/waymark/internal/testnet"
)

// TestDumpRoutes: of whatever protocol, in whichever table, and whether the table
// exists, what is read is what there is less the routes to Services.
func TestDumpRoutes(t *testing.T) {
	check := func(t *testing.T, table, least int) {
		t.Helper()
		var want []string
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			all, err := netlink.RouteListFiltered(family, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range all {
				if r.Protocol != ServiceProtocol {
					want = append(want, fmt.Sprintf("%+v", r))
				}
			}
		}
		routes, err := dumpRoutes(table)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range routes {
			got = append(got, fmt.Sprintf("%+v", r))
		}
		slices.Sort(want)
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" || len(got) < least {
			t.Errorf("table %d: %d routes (-want +got):\n%s", table, len(got), d)
		}
	}
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		check(t, unix.RT_TABLE_MAIN, 0)
		rack(t, node)
		for i, protocol := range []string{"static", "boot", "bgp", "0", "87", "88", "200"} {
			for _, table := range []string{"main", "100", "1000"} {
				node.Exec(t, fmt.Sprintf("ip route add blackhole 198.18.%d.0/24 proto %s table %s", i, protocol, table))
				node.Exec(t, fmt.Sprintf("ip route add blackhole 2001:db8:18:%d::/64 proto %s table %s", i, protocol, table))
			}
		}
		for table, least := range map[int]int{unix.RT_TABLE_MAIN: 12, 100: 12, 1000: 12, unix.RT_TABLE_UNSPEC: 36, 77: 0} {
			check(t, table, least)
		}
	})
}
