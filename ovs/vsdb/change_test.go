// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ovn-kubernetes/libovsdb/model"
)

func TestChangeOf(t *testing.T) {
	iface := func(name, owner string, ofport int) *interfaceRow {
		return &interfaceRow{Name: name, OFPort: &ofport, ExternalIDs: map[string]string{OwnerKey: owner}}
	}
	bridge := func(failMode string, ports ...string) *bridgeRow {
		return &bridgeRow{Name: "br-int", FailMode: &failMode, Ports: ports}
	}
	podStatus := func(ofport uint32) *PortStatus {
		return &PortStatus{Name: "wm1", OFPort: ofport, ExternalIDs: map[string]string{OwnerKey: OwnerPod}}
	}
	type told struct {
		Change
		Tell bool
	}
	for _, tt := range []struct {
		name     string
		old, row model.Model
		want     told
	}{
		{"new Pod port", nil, iface("wm1", OwnerPod, 0), told{Change{Pod: podStatus(0)}, true}},
		{"Pod port gets its number", iface("wm1", OwnerPod, 0), iface("wm1", OwnerPod, 7), told{Change{Pod: podStatus(7)}, true}},
		{"Pod port gone", iface("wm1", OwnerPod, 7), nil, told{Change{Pod: podStatus(7), Gone: true}, true}},
		{"gateway gone", iface("wm-gw0", OwnerAgent, 1), nil, told{Change{}, true}},
		{"port without owner", nil, iface("eth9", "", 9), told{Change{}, true}},
		{"port row", nil, &portRow{Name: "wm1"}, told{}},
		{"port row gone", &portRow{Name: "wm-gw0"}, nil, told{}},
		{"bridge new", nil, bridge("secure"), told{Change{}, true}},
		{"bridge gone", bridge("secure"), nil, told{Change{}, true}},
		{"bridge with another port", bridge("secure", "a"), bridge("secure", "a", "b"), told{}},
		{"bridge reconfigured", bridge("secure", "a"), bridge("standalone", "a"), told{Change{}, true}},
		{"root", &rootRow{}, &rootRow{Bridges: []string{"b"}}, told{Change{}, true}},
		{"counted", &rootRow{NextCfg: 1}, &rootRow{NextCfg: 2, CurCfg: 1}, told{Change{}, false}},
	} {
		change, tell := changeOf(tt.old, tt.row)
		if d := cmp.Diff(tt.want, told{change, tell}); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}
