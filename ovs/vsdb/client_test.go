// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ovn-kubernetes/libovsdb/ovsdb"
	"go.uber.org/goleak"

	"github.com/waymark-net/waymark/encap"
)

var testMAC = net.HardwareAddr{0x0a, 0x57, 0x4d, 0, 0, 1}

func testLayout() Layout {
	return Layout{
		Datapath:   DatapathNetdev,
		GatewayMAC: testMAC,
		MTU:        1450,
		Tunnels:    []Tunnel{{Type: encap.Geneve}},
		Uplink:     &Uplink{Name: "eth0", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}},
	}
}

type fixture struct {
	server   *fakeServer
	client   *Client
	notified *atomic.Int64
}

// newFixture starts a database and a client that is connected to it.
func newFixture(t *testing.T) fixture {
	t.Helper()
	s := newFakeServer(t)
	s.start()
	t.Cleanup(s.stop)
	f := fixture{server: s, notified: &atomic.Int64{}}
	f.client = New(Params{
		Endpoint:    s.endpoint(),
		PortTimeout: 20 * time.Second,
		Notify:      func(Change) { f.notified.Add(1) },
	})
	runClient(t, f.client)
	waitFor(t, "the connection", f.client.Connected)
	return f
}

func (f fixture) snapshot(t *testing.T) snapshot {
	t.Helper()
	conn, _, err := f.client.current()
	if err != nil {
		t.Fatal(err)
	}
	s, err := readSnapshot(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f fixture) apply(t *testing.T, sw Switch) Status {
	t.Helper()
	st, err := f.client.Apply(t.Context(), sw)
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return st
}

// execute runs one change past Apply, as another program would.
func (f fixture) execute(t *testing.T, ch change) {
	t.Helper()
	conn, _, err := f.client.current()
	if err != nil {
		t.Fatal(err)
	}
	if err := execute(t.Context(), conn, f.snapshot(t), ch); err != nil {
		t.Fatal(err)
	}
}

// addForeignBridge makes a bridge as another program would.
func (f fixture) addForeignBridge(t *testing.T) {
	t.Helper()
	f.execute(t, change{kind: addBridge, bridge: Bridge{Name: "br-foreign", DatapathType: "netdev", FailMode: "standalone"}})
	conn, _, err := f.client.current()
	if err != nil {
		t.Fatal(err)
	}
	br := f.snapshot(t).bridges["br-foreign"]
	row, iface := br.row, br.ports["br-foreign"].iface
	row.ExternalIDs = map[string]string{"made-by": "hand"}
	iface.ExternalIDs = nil
	ops, err := concat(
		func() ([]ovsdb.Operation, error) { return conn.Where(&row).Update(&row, &row.ExternalIDs) },
		func() ([]ovsdb.Operation, error) { return conn.Where(&iface).Update(&iface, &iface.ExternalIDs) },
	)
	if err != nil {
		t.Fatal(err)
	}
	if err := transact(t.Context(), conn, ops); err != nil {
		t.Fatal(err)
	}
}

// dump lists bridges and ports as text, one a line.
func dump(s snapshot) []string {
	var out []string
	for _, b := range s.bridges {
		failMode := ""
		if b.row.FailMode != nil {
			failMode = *b.row.FailMode
		}
		out = append(out, fmt.Sprintf("%s %s %s %v %v", b.row.Name, b.row.DatapathType, failMode, b.row.OtherConfig, b.row.ExternalIDs))
		for _, p := range b.ports {
			line := fmt.Sprintf("%s/%s type=%q options=%v ids=%v", b.row.Name, p.iface.Name, p.iface.Type, p.iface.Options, p.iface.ExternalIDs)
			if p.iface.MAC != nil {
				line += " mac=" + *p.iface.MAC
			}
			if p.iface.MTURequest != nil {
				line += fmt.Sprintf(" mtu=%d", *p.iface.MTURequest)
			}
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return out
}

func TestApply(t *testing.T) {
	f := newFixture(t)
	startVswitchd(t, f.server.endpoint())

	st := f.apply(t, testLayout().Switch())
	want := []string{
		`br-ext netdev standalone map[hwaddr:02:00:00:00:00:09] map[waymark-owner:agent]`,
		`br-ext/br-ext type="internal" options=map[] ids=map[waymark-owner:agent]`,
		`br-ext/eth0 type="" options=map[] ids=map[waymark-owner:agent]`,
		`br-int netdev secure map[datapath-id:00000a574d000002 disable-in-band:true hwaddr:0a:57:4d:00:00:02] map[waymark-owner:agent]`,
		`br-int/br-int type="internal" options=map[] ids=map[waymark-owner:agent]`,
		`br-int/wm-geneve-6081 type="geneve" options=map[csum:true dst_port:6081 key:flow remote_ip:flow] ids=map[waymark-owner:agent]`,
		`br-int/wm-gw0 type="internal" options=map[] ids=map[waymark-owner:agent] mac=0a:57:4d:00:00:01 mtu=1450`,
	}
	if d := cmp.Diff(want, dump(f.snapshot(t))); d != "" {
		t.Fatalf("database (-want +got):\n%s", d)
	}
	for _, name := range []string{"br-int", "br-ext", "wm-gw0", "wm-geneve-6081", "eth0"} {
		if p := st.Ports[name]; p.OFPort == 0 || p.Error != "" || p.Ifindex == 0 {
			t.Errorf("port %s: %+v", name, p)
		}
	}
	if st := f.apply(t, testLayout().Switch()); st.Transactions != 0 {
		t.Errorf("an unchanged switch took %d transactions", st.Transactions)
	}

	changed := testLayout()
	changed.MTU = 1400
	changed.Tunnels = []Tunnel{{Type: encap.VXLAN, Port: 8472}}
	changed.Uplink = nil
	f.apply(t, changed.Switch())
	want = []string{
		want[3],
		want[4],
		`br-int/wm-gw0 type="internal" options=map[] ids=map[waymark-owner:agent] mac=0a:57:4d:00:00:01 mtu=1400`,
		`br-int/wm-vxlan-8472 type="vxlan" options=map[csum:true dst_port:8472 key:flow remote_ip:flow] ids=map[waymark-owner:agent]`,
	}
	if d := cmp.Diff(want, dump(f.snapshot(t))); d != "" {
		t.Fatalf("database after the change (-want +got):\n%s", d)
	}
	before := f.snapshot(t).bridges["br-int"].ports["wm-vxlan-8472"].uuid
	other := changed.Switch()
	other.Bridges[0].Ports[1].Type = "geneve"
	f.apply(t, other)
	if f.snapshot(t).bridges["br-int"].ports["wm-vxlan-8472"].uuid == before {
		t.Error("the tunnel port changed its type in place")
	}

	changed.Tunnels = nil
	f.apply(t, changed.Switch())
	if d := cmp.Diff(want[:3], dump(f.snapshot(t))); d != "" {
		t.Errorf("database without tunnel (-want +got):\n%s", d)
	}
}

func TestApplyLeavesForeignObjectsAlone(t *testing.T) {
	f := newFixture(t)
	startVswitchd(t, f.server.endpoint())
	f.apply(t, testLayout().Switch())
	conn, _, _ := f.client.current()

	f.addForeignBridge(t)
	ops, err := addPortOps(conn, f.snapshot(t), "br-int", interfaceRow{Name: "tap7", ExternalIDs: map[string]string{"vm": "7"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := transact(t.Context(), conn, ops); err != nil {
		t.Fatal(err)
	}
	// Somebody else's key in a bridge of ours stays too.
	br := f.snapshot(t).bridges["br-int"].row
	br.OtherConfig["mcast-snooping-aging-time"] = "5"
	br.OtherConfig["hwaddr"] = "02:00:00:00:00:00"
	ops, err = conn.Where(&br).Update(&br, &br.OtherConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := transact(t.Context(), conn, ops); err != nil {
		t.Fatal(err)
	}

	if st := f.apply(t, testLayout().Switch()); st.Transactions != 1 {
		t.Errorf("%d transactions, want the one that sets hwaddr back", st.Transactions)
	}
	got := strings.Join(dump(f.snapshot(t)), "\n")
	for _, want := range []string{
		"br-foreign netdev", "br-foreign/br-foreign", "br-int/tap7",
		"hwaddr:0a:57:4d:00:00:02 mcast-snooping-aging-time:5",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
}

func TestApplyRepairs(t *testing.T) {
	tests := []struct {
		name string
		harm change
	}{
		{"bridge deleted", change{kind: delBridge, bridge: Bridge{Name: "br-int"}}},
		{"gateway port deleted", change{kind: delPort, portBridge: "br-int", port: Port{Name: "wm-gw0"}}},
		{"own port deleted", change{kind: delPort, portBridge: "br-ext", port: Port{Name: "br-ext"}}},
		{"bridge reconfigured", change{kind: updateBridge, bridge: Bridge{Name: "br-int", FailMode: "standalone"}}},
		{"tunnel options changed", change{kind: updatePort, bridge: Bridge{Name: "br-int"},
			port: Port{Name: "wm-geneve-6081", Type: "geneve", Options: map[string]string{"remote_ip": "192.0.2.1"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			startVswitchd(t, f.server.endpoint())
			f.apply(t, testLayout().Switch())
			want := dump(f.snapshot(t))
			before := f.notified.Load()
			f.execute(t, tt.harm)
			waitFor(t, "a notification", func() bool { return f.notified.Load() > before })
			if slices.Equal(want, dump(f.snapshot(t))) {
				t.Fatal("the harm did nothing")
			}
			f.apply(t, testLayout().Switch())
			if d := cmp.Diff(want, dump(f.snapshot(t))); d != "" {
				t.Errorf("not repaired (-want +got):\n%s", d)
			}
		})
	}
}

func TestApplyGoesOnPastFailure(t *testing.T) {
	f := newFixture(t)
	startVswitchd(t, f.server.endpoint())
	sw := testLayout().Switch()
	sw.Bridges[0].Ports = append([]Port{{Name: "missing"}}, sw.Bridges[0].Ports...)
	st, err := f.client.Apply(t.Context(), sw)
	if err == nil || !strings.Contains(err.Error(), "port missing of bridge br-int: could not open network device") {
		t.Errorf("got error %v", err)
	}
	if st.Ports["wm-gw0"].OFPort == 0 || st.Ports["eth0"].OFPort == 0 {
		t.Errorf("the other ports were not made: %+v", st.Ports)
	}
	if st.Ports["missing"].Error == "" {
		t.Errorf("port missing has no error: %+v", st.Ports["missing"])
	}

	sw = testLayout().Switch()
	sw.Bridges[1].Ports = append(sw.Bridges[1].Ports, Port{Name: "br-foreign"})
	f.addForeignBridge(t)
	if _, err := f.client.Apply(t.Context(), sw); err == nil || !strings.Contains(err.Error(), "br-foreign") {
		t.Errorf("a port of another bridge: got error %v", err)
	}
}

func TestNotConnected(t *testing.T) {
	c := New(Params{Endpoint: "unix:/nonexistent/db.sock"})
	if _, err := c.Apply(t.Context(), Switch{}); !errors.Is(err, ErrNotConnected) {
		t.Errorf("Apply: %v", err)
	}
	if _, err := c.AddPort(t.Context(), PodPort{Name: "wm1"}); !errors.Is(err, ErrNotConnected) {
		t.Errorf("AddPort: %v", err)
	}
	if err := c.DelPort(t.Context(), "wm1"); !errors.Is(err, ErrNotConnected) {
		t.Errorf("DelPort: %v", err)
	}
	if _, err := c.Ports(t.Context()); !errors.Is(err, ErrNotConnected) {
		t.Errorf("Ports: %v", err)
	}
}

func TestReconnectAfterWipe(t *testing.T) {
	f := newFixture(t)
	vswitchd := startVswitchd(t, f.server.endpoint())
	f.apply(t, testLayout().Switch())
	want := dump(f.snapshot(t))

	f.server.stop()
	waitFor(t, "the loss of the connection", func() bool { return !f.client.Connected() && !vswitchd.client.Connected() })
	f.server.wipe()
	before := f.notified.Load()
	f.server.start()
	waitFor(t, "the new connection", f.client.Connected)
	vswitchd.awaitConnection(t)
	if f.notified.Load() == before {
		t.Error("the new connection was not announced")
	}
	if got := dump(f.snapshot(t)); len(got) != 0 {
		t.Fatalf("the replica has rows of the old database: %v", got)
	}
	f.apply(t, testLayout().Switch())
	if d := cmp.Diff(want, dump(f.snapshot(t))); d != "" {
		t.Errorf("not repaired (-want +got):\n%s", d)
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
