// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/internal/cniserver"
	"github.com/waymark-net/waymark/internal/enforce"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/ovs/vsdb"
)

// fakePorts numbers ports in the order in which they are added.
type fakePorts struct {
	ports map[string]vsdb.PortStatus
	next  uint32
	// err is what Ports fails with.
	err error
	// during runs while Ports is being answered.
	during func()
	// added runs before AddPort returns.
	added func(name string)
}

func (f *fakePorts) AddPort(_ context.Context, p vsdb.PodPort) (uint32, error) {
	f.next++
	f.ports[p.Name] = vsdb.PortStatus{Name: p.Name, OFPort: f.next, ExternalIDs: p.ExternalIDs}
	if f.added != nil {
		f.added(p.Name)
	}
	return f.next, nil
}

func (f *fakePorts) DelPort(_ context.Context, name string) error {
	delete(f.ports, name)
	return nil
}

func (f *fakePorts) Settle(context.Context) error { return nil }

func (f *fakePorts) Ports(context.Context) ([]vsdb.PortStatus, error) {
	out := slices.Collect(maps.Values(f.ports))
	if f.during != nil {
		f.during()
	}
	return out, f.err
}

func (f *fakePorts) renumber(name string, ofport uint32) {
	p := f.ports[name]
	p.OFPort = ofport
	f.ports[name] = p
}

func newSwitches(t *testing.T) (*podSwitch, *fakePorts, *ovstest.Switch) {
	t.Helper()
	var tables []uint8
	for _, table := range pipeline.Tables() {
		tables = append(tables, table.ID)
	}
	ports := &fakePorts{ports: map[string]vsdb.PortStatus{}}
	flows := ovstest.NewSwitch(ovstest.SwitchParams{Tables: tables})
	return newPodSwitch(ports, flows, noPolicies{}), ports, flows
}

// noPolicies has none.
type noPolicies struct{}

func (noPolicies) Attach(enforce.Interface) ([]string, error) { return nil, nil }
func (noPolicies) Detach(string) error                        { return nil }

func pod(host string, ips ...string) cniserver.PodInterface {
	p := cniserver.PodInterface{
		ContainerID: "c-" + host, IfName: "eth0", PodNamespace: "default", PodName: "p-" + host, PodUID: "u",
		NetNS: "/run/netns/" + host, HostInterface: host, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9},
	}
	for _, ip := range ips {
		p.Addresses = append(p.Addresses, netip.MustParseAddr(ip))
	}
	return p
}

func inPort(t *testing.T, flows *ovstest.Switch, port uint32) bool {
	t.Helper()
	for _, f := range flows.Flows() {
		if v, ok := f.Match.Get(flow.FieldInPort); ok && cmp.Equal(v, flow.InPort(port)) {
			return true
		}
	}
	return false
}

func TestAttachedPodIsReadBack(t *testing.T) {
	s, _, flows := newSwitches(t)
	want := pod("wm1", "10.10.1.2", "fd10::2")
	if err := s.AttachPod(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	got, err := s.PodInterfaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]cniserver.PodInterface{want}, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
	if err := s.CheckPod(t.Context(), want); err != nil {
		t.Error(err)
	}
	if err := s.DetachPod(t.Context(), "wm1"); err != nil {
		t.Fatal(err)
	}
	if n := len(flows.Flows()); n != 0 {
		t.Errorf("%d flows are left after the Pod was detached", n)
	}
	if err := s.CheckPod(t.Context(), want); err == nil {
		t.Error("CheckPod finds a Pod that was detached")
	}
}

// TestRestoreFollowsPortNumbers: two ports may have each other's numbers after
// the switch restarted.
func TestRestoreFollowsPortNumbers(t *testing.T) {
	s, ports, flows := newSwitches(t)
	for host, ip := range map[string]string{"wm1": "10.10.1.2", "wm2": "10.10.1.3"} {
		if err := s.AttachPod(t.Context(), pod(host, ip)); err != nil {
			t.Fatal(err)
		}
	}
	one, two := ports.ports["wm1"].OFPort, ports.ports["wm2"].OFPort
	ports.renumber("wm1", two)
	ports.renumber("wm2", one)
	if err := s.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.declared["wm1"] != two || s.declared["wm2"] != one {
		t.Errorf("declared = %v, want the numbers exchanged", s.declared)
	}
	ports.renumber("wm1", 77)
	if err := s.DetachPod(t.Context(), "wm2"); err != nil {
		t.Fatal(err)
	}
	if err := s.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !inPort(t, flows, 77) || inPort(t, flows, one) || inPort(t, flows, two) {
		t.Errorf("flows do not follow the ports:\n%s", flows.Dump())
	}
}

// TestRestoreDoesNotUndo: a Pod that is detached while restore looks at the
// ports must not come back.
func TestRestoreDoesNotUndo(t *testing.T) {
	s, ports, flows := newSwitches(t)
	if err := s.AttachPod(t.Context(), pod("wm1", "10.10.1.2")); err != nil {
		t.Fatal(err)
	}
	ports.during = func() {
		ports.during = nil
		if err := s.DetachPod(t.Context(), "wm1"); err != nil {
			t.Error(err)
		}
	}
	if err := s.restore(t.Context()); !errors.Is(err, errBusy) {
		t.Errorf("restore = %v, want errBusy", err)
	}
	if err := s.restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(flows.Flows()); n != 0 {
		t.Errorf("%d flows of a detached Pod are there", n)
	}
}

func TestPortThatCannotBeReadIsNoPod(t *testing.T) {
	for name, ids := range map[string]map[string]string{
		"nothing":     nil,
		"bad MAC":     {idMAC: "x", idIPs: "10.0.0.1", idContainer: "c"},
		"bad address": {idMAC: "02:00:00:00:00:01", idIPs: "10.0.0.1,x", idContainer: "c"},
	} {
		got := podOfPort(vsdb.PortStatus{Name: "wm1", ExternalIDs: ids})
		if diff := cmp.Diff(cniserver.PodInterface{HostInterface: "wm1"}, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestExpectedChanges(t *testing.T) {
	s, ports, _ := newSwitches(t)
	port := func(name string, ofport uint32, failure string) *vsdb.PortStatus {
		return &vsdb.PortStatus{Name: name, OFPort: ofport, Error: failure}
	}
	ports.added = func(name string) {
		if !s.expected(vsdb.Change{Pod: port(name, 0, "")}) {
			t.Error("a port that AttachPod is making is not expected")
		}
	}
	if err := s.AttachPod(t.Context(), pod("wm1", "10.10.1.2")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change vsdb.Change
		want   bool
	}{
		{"as attached", vsdb.Change{Pod: port("wm1", 1, "")}, true},
		{"another number", vsdb.Change{Pod: port("wm1", 2, "")}, false},
		{"no number", vsdb.Change{Pod: port("wm1", 0, "")}, false},
		{"failed", vsdb.Change{Pod: port("wm1", 1, "no such device")}, false},
		{"deleted by hand", vsdb.Change{Pod: port("wm1", 1, ""), Gone: true}, false},
		{"added by hand", vsdb.Change{Pod: port("wm2", 2, "")}, false},
	} {
		if got := s.expected(test.change); got != test.want {
			t.Errorf("%s: expected is %t", test.name, got)
		}
	}
	if err := s.DetachPod(t.Context(), "wm1"); err != nil {
		t.Fatal(err)
	}
	if !s.expected(vsdb.Change{Pod: port("wm1", 1, ""), Gone: true}) {
		t.Error("the end of a port that was detached is not expected")
	}
}
