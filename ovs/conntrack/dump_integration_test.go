// SPDX-License-Identifier: Apache-2.0

//go:build integration

package conntrack

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/unixctl"
)

// TestDump has a switch track connections and reads them by their zones.
func TestDump(t *testing.T) {
	t.Parallel()
	o := ovstest.StartOVS(t)
	o.AddBridge("br-int", ovstest.DatapathDummy)
	o.AddPort("br-int", "p1", "dummy", 1)
	for _, f := range []string{
		"ip actions=ct(commit,table=1,zone=7,nat(dst=10.0.0.9:80),exec(set_field:0x80000005->ct_mark))",
		"icmp6 actions=ct(commit,zone=7)",
		"table=1,ip actions=ct(commit,zone=65525,nat(src=10.0.0.77))",
	} {
		o.Ofctl("add-flow", o.Socket("br-int"), f)
	}
	for _, p := range []string{
		"eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.1.1,proto=6,tos=0,ttl=64,frag=no),tcp(src=1001,dst=8080),tcp_flags(syn)",
		"eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.1.1,proto=17,tos=0,ttl=64,frag=no),udp(src=1001,dst=53)",
		"eth_type(0x86dd),ipv6(src=fd00::1,dst=fd00::2,label=0,proto=58,tclass=0,hlimit=64,frag=no),icmpv6(type=128,code=0)",
	} {
		o.Appctl("netdev-dummy/receive", "p1", "in_port(1),eth(src=0a:00:00:00:00:01,dst=0a:00:00:00:00:02),"+p)
	}
	params := Params{Socket: filepath.Join(o.RunDir(), "vswitchd.ctl"), Datapath: "dummy@ovs-dummy"}
	for zone, want := range map[uint16][]Entry{
		7: {
			entry(7, 6, 0x80000005, "10.0.0.1:1001", "10.0.1.1:8080", "10.0.0.9:80", "10.0.0.1:1001"),
			entry(7, 17, 0x80000005, "10.0.0.1:1001", "10.0.1.1:53", "10.0.0.9:80", "10.0.0.1:1001"),
			entry(7, 58, 0, "[fd00::1]:0", "[fd00::2]:0", "[fd00::2]:0", "[fd00::1]:0"),
		},
		65525: {
			entry(65525, 6, 0, "10.0.0.1:1001", "10.0.0.9:80", "10.0.0.9:80", "10.0.0.77:1001"),
			entry(65525, 17, 0, "10.0.0.1:1001", "10.0.0.9:80", "10.0.0.9:80", "10.0.0.77:1001"),
		},
		8: nil,
	} {
		var got []Entry
		params.Zone = zone
		if err := Dump(t.Context(), params, func(e Entry) error { got = append(got, e); return nil }); err != nil {
			t.Error(err)
		}
		slices.SortFunc(got, func(a, b Entry) int { return int(a.Protocol) - int(b.Protocol) })
		if diff := cmp.Diff(want, got, equalEnds); diff != "" {
			t.Errorf("zone %d (-want +got):\n%s", zone, diff)
		}
	}
	params.Datapath = DatapathNetdev
	if err := Dump(t.Context(), params, nil); !errors.Is(err, unixctl.ErrRefused) || !strings.Contains(err.Error(), "datapath not found") {
		t.Errorf("a datapath that is not there: %v", err)
	}
}
