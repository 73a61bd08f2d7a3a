// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func addresses(s ...string) []Address {
	var out []Address
	for _, a := range s {
		out = append(out, Address{Prefix: pfx(a)})
	}
	return out
}

func defaultVia(gw string, metric int) savedRoute {
	a := netip.MustParseAddr(gw)
	return savedRoute{
		Table: 254, Prefix: netip.PrefixFrom(a, 0).Masked(), Type: 1, Protocol: 3, Metric: metric, Hops: []savedHop{{Addr: a}},
	}
}

func TestSituationWant(t *testing.T) {
	nic := l3Config{MTU: 1500, MAC: "02:00:00:00:00:01", Addresses: addresses("172.30.0.11/24"), Routes: []savedRoute{defaultVia("172.30.0.1", 0)}}
	empty := l3Config{MTU: 1500, MAC: "02:00:00:00:00:01"}
	saved := &uplinkState{BootID: "boot", BridgeIndex: 7, Config: nic}
	changed := nic
	changed.Addresses = addresses("172.30.0.12/24")
	halfway := empty
	halfway.Addresses = addresses("172.30.0.11/24")
	both := nic
	both.Addresses = addresses("172.30.0.11/24", "172.30.0.12/24")
	tests := []struct {
		name string
		s    situation
		want l3Config
	}{
		{"first move", situation{nic: nic, bridge: empty}, nic},
		{"file lost", situation{nic: empty, bridge: nic}, nic},
		{"settled", situation{state: saved, nic: empty, bridge: nic, bridgeIndex: 7, bridgeUp: true}, nic},
		{"changed by hand on the bridge", situation{state: saved, nic: empty, bridge: changed, bridgeIndex: 7, bridgeUp: true}, changed},
		{"bridge made anew", situation{state: saved, nic: empty, bridge: empty, bridgeIndex: 8}, nic},
		{"bridge set down", situation{state: saved, nic: empty, bridge: changed, bridgeIndex: 7}, nic},
		{"bridge flushed", situation{state: saved, nic: empty, bridge: empty, bridgeIndex: 7, bridgeUp: true}, nic},
		{
			"interrupted",
			situation{state: &uplinkState{BootID: "boot", Config: nic}, nic: empty, bridge: halfway, bridgeIndex: 7, bridgeUp: true}, nic,
		},
		{
			"MAC changed by the switch, which flushed routes",
			situation{state: saved, nic: empty, bridge: l3Config{MAC: "02:00:00:00:00:99", Addresses: nic.Addresses[:1]}, bridgeIndex: 7, bridgeUp: true}, nic,
		},
		{"something new on the NIC", situation{state: saved, nic: changed, bridge: nic, bridgeIndex: 7, bridgeUp: true}, both},
		{"reboot, another address", situation{state: saved, nic: changed, bridge: empty, bridgeIndex: 7}, changed},
		{"reboot, NIC not configured", situation{state: saved, nic: empty, bridge: empty, bridgeIndex: 7}, nic},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.s.bootID = "boot"
			if tt.name[:6] == "reboot" {
				tt.s.bootID = "another boot"
			}
			if diff := cmp.Diff(tt.want, tt.s.want(), equateNetip, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanMove(t *testing.T) {
	v6 := defaultVia("fe80::1", 1024)
	v4 := defaultVia("172.30.0.1", 0)
	host := savedRoute{Table: 254, Prefix: pfx("172.30.9.9/32"), Type: 1, Scope: 253, Protocol: 4, Hops: []savedHop{{}}}
	want := l3Config{Addresses: addresses("172.30.0.11/24", "172.30.0.12/24", "fd30::13/64", "fd30::12/64", "fd30::11/64"), Routes: []savedRoute{v4, v6, host}}
	old := v4
	old.MTU = 1400
	got := planMove(want, want, l3Config{Addresses: addresses("fd30::11/64"), Routes: []savedRoute{v6, old}})
	if diff := cmp.Diff(addresses("172.30.0.11/24", "172.30.0.12/24", "fd30::12/64", "fd30::13/64"), got.addAddresses, equateNetip); diff != "" {
		t.Errorf("addAddresses (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]savedRoute{host, v4}, got.putRoutes, equateNetip); diff != "" {
		t.Errorf("putRoutes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(addresses("fd30::11/64", "fd30::12/64", "fd30::13/64", "172.30.0.12/24", "172.30.0.11/24"), got.dropAddresses, equateNetip); diff != "" {
		t.Errorf("dropAddresses (-want +got):\n%s", diff)
	}
}

func TestStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "uplink.json")
	if nic, err := SavedNIC(path); nic != "" || err != nil {
		t.Errorf("without a file: %q, %v", nic, err)
	}
	want := uplinkState{
		Version: stateVersion, NIC: "eth0", Bridge: "br-ext", BootID: "x", BridgeIndex: 3,
		Config: l3Config{
			MTU: 1500, MAC: "02:00:00:00:00:01", Addresses: addresses("172.30.0.11/24", "fd30::11/64"),
			Routes: []savedRoute{defaultVia("172.30.0.1", 5), defaultVia("fe80::1", 1024)},
		},
		NICSysctls: map[string]string{"a": "1"}, NICOffloads: offloads{GRO: true},
	}
	if err := saveState(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := loadState(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got, equateNetip); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("left beside it: %v, %v", files, err)
	}
	if err := errors.Join(removeState(path), removeState(path)); err != nil {
		t.Error(err)
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"version":1,"nic":"eth0","bridge":"br-ext","config":{"addresses":[{"prefix":"10.0.0.1/8"}],
		"routes":[{"table":254,"prefix":"0.0.0.0/0","type":1,"hops":[{"addr":"10.0.0.2"}]}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := parseState(b)
		if err != nil {
			return
		}
		plan := planMove(situation{state: st}.want(), l3Config{}, l3Config{})
		for _, r := range plan.putRoutes {
			if _, err := r.toNetlink(1, newLinkNames()); err != nil && len(r.Hops) == 1 && r.Hops[0].Interface == "" {
				t.Error(err)
			}
		}
	})
}
