// SPDX-License-Identifier: Apache-2.0

//go:build integration

package vsdb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/ovs/ovstest"
)

// realFixture is a client of a real Open vSwitch in a namespace.
type realFixture struct {
	ovs      *ovstest.OVS
	client   *Client
	notified *atomic.Int64
	layout   Layout
}

func newRealFixture(t *testing.T, node *testnet.Namespace) realFixture {
	t.Helper()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	wire := testnet.New(t, "wire")
	testnet.Veth(t, testnet.End{NS: node, Name: "eth0", MAC: mac.String()}, testnet.End{NS: wire, Name: "eth0"})
	f := realFixture{ovs: ovstest.StartOVS(t), notified: &atomic.Int64{}}
	f.layout = Layout{
		Datapath: DatapathNetdev, GatewayMAC: testMAC, MTU: 1450,
		Tunnels: []Tunnel{{Type: encap.Geneve}}, Uplink: &Uplink{Name: "eth0", MAC: mac},
	}
	f.client = New(Params{Endpoint: f.ovs.DB(), Notify: func(Change) { f.notified.Add(1) }})
	runClient(t, f.client)
	waitFor(t, "the connection", f.client.Connected)
	return f
}

func (f realFixture) apply(t *testing.T) Status {
	t.Helper()
	st, err := f.client.Apply(t.Context(), f.layout.Switch())
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return st
}

// heal applies until it succeeds, as the agent's loop does.
func (f realFixture) heal(t *testing.T) Status {
	t.Helper()
	var st Status
	testnet.WaitFor(t, 30*time.Second, func() error {
		var err error
		st, err = f.client.Apply(t.Context(), f.layout.Switch())
		return err
	})
	return st
}

func TestRealSwitch(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		f := newRealFixture(t, node)
		st := f.apply(t)
		if again := f.apply(t); again.Transactions != 0 {
			t.Errorf("an unchanged switch took %d transactions", again.Transactions)
		}
		for _, name := range []string{"br-int", "br-ext", "wm-gw0", "wm-geneve-6081", "eth0"} {
			if p := st.Ports[name]; p.OFPort == 0 || p.Error != "" {
				t.Errorf("port %s: %+v", name, p)
			}
		}
		for dev, want := range map[string][2]string{
			"wm-gw0": {testMAC.String(), "1450"}, "br-ext": {"02:00:00:00:00:09", "1500"}, "br-int": {integrationMAC, ""},
		} {
			link, err := net.InterfaceByName(dev)
			if err != nil {
				t.Fatal(err)
			}
			if link.HardwareAddr.String() != want[0] || want[1] != "" && fmt.Sprint(link.MTU) != want[1] {
				t.Errorf("%s has MAC %v and MTU %d, want %v", dev, link.HardwareAddr, link.MTU, want)
			}
		}
		f.layout.Tunnels = append(f.layout.Tunnels, Tunnel{Type: encap.VXLAN}, Tunnel{Type: encap.VXLAN, Port: 8472})
		ports := f.apply(t).Ports
		for _, tunnel := range f.layout.Tunnels {
			if p := ports[tunnel.PortName()]; p.OFPort == 0 || p.Error != "" {
				t.Errorf("tunnel port %s beside others: %+v", tunnel.PortName(), p)
			}
		}
	})
}

func TestRealPodPorts(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		f := newRealFixture(t, node)
		f.apply(t)
		if _, err := f.client.AddPort(t.Context(), PodPort{Name: "wmnone"}); err == nil || !strings.Contains(err.Error(), "wmnone") {
			t.Errorf("AddPort of a missing device: %v", err)
		}
		const n = 20
		for i := range n {
			node.Exec(t, fmt.Sprintf("ip link add wm%d type veth peer name peer%d", i, i))
		}
		datapath := strings.TrimSpace(f.ovs.Vsctl("get", "bridge", "br-int", "datapath_id"))
		var wg sync.WaitGroup
		ofports := make([]uint32, n)
		for i := range n {
			wg.Go(func() {
				started := time.Now()
				port, err := f.client.AddPort(t.Context(), PodPort{Name: fmt.Sprintf("wm%d", i), ExternalIDs: map[string]string{"n": fmt.Sprint(i)}})
				if err != nil {
					t.Errorf("AddPort: %v", err)
				}
				ofports[i] = port
				t.Logf("AddPort took %v", time.Since(started))
			})
		}
		wg.Wait()
		slices.Sort(ofports)
		if got := len(slices.Compact(ofports)); got != n {
			t.Errorf("%d different OpenFlow ports, want %d", got, n)
		}
		if got := strings.TrimSpace(f.ovs.Vsctl("get", "bridge", "br-int", "datapath_id")); got != datapath {
			t.Errorf("the datapath ID changed from %s to %s, which cuts OpenFlow connections", datapath, got)
		}
		ports, err := f.client.Ports(t.Context())
		if err != nil || len(ports) != n {
			t.Errorf("Ports: %d, %v", len(ports), err)
		}
		for i := range n {
			if err := f.client.DelPort(t.Context(), fmt.Sprintf("wm%d", i)); err != nil {
				t.Error(err)
			}
		}
		if ports, err := f.client.Ports(t.Context()); err != nil || len(ports) != 0 {
			t.Errorf("left behind: %v, %v", ports, err)
		}
	})
}

// TestRealHarm does to the switch what happens in the field, and expects to be
// notified and to be able to repair it.
func TestRealHarm(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		f := newRealFixture(t, node)
		before := f.apply(t)
		node.Exec(t, "ip link add wm1 type veth peer name peer1")
		podPort, err := f.client.AddPort(t.Context(), PodPort{Name: "wm1"})
		if err != nil {
			t.Fatal(err)
		}
		// Devices and numbers outlive the daemon.
		f.ovs.StopVswitchd()
		f.ovs.StartVswitchd()
		after := f.heal(t)
		if d := cmp.Diff(before.Ports, after.Ports); d != "" || after.Transactions != 0 {
			t.Errorf("%d transactions after the restart of ovs-vswitchd; ports (-before +after):\n%s", after.Transactions, d)
		}
		ports, err := f.client.Ports(t.Context())
		if err != nil || len(ports) != 1 || ports[0].OFPort != podPort {
			t.Errorf("Pod ports after the restart: %+v, %v; want port %d", ports, err, podPort)
		}

		n := f.notified.Load()
		f.ovs.Vsctl("del-br", "br-int")
		waitFor(t, "a notification after the end of br-int", func() bool { return f.notified.Load() > n })
		testnet.WaitFor(t, 20*time.Second, func() error {
			gw := f.heal(t).Ports["wm-gw0"]
			if link, err := net.InterfaceByName("wm-gw0"); err != nil || link.Index != gw.Ifindex {
				return fmt.Errorf("the gateway port is %+v, its device %+v (%w)", gw, link, err)
			}
			if gw.Ifindex == before.Ports["wm-gw0"].Ifindex {
				return errors.New("the gateway port still has the index of the old device")
			}
			return nil
		})

		f.ovs.StopDatabase()
		waitFor(t, "the loss of the connection", func() bool { return !f.client.Connected() })
		db := filepath.Join(f.ovs.RunDir(), "conf.db")
		if err := errors.Join(os.Remove(db), os.RemoveAll(filepath.Join(f.ovs.RunDir(), ".conf.db.~lock~"))); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ovs.Try("ovsdb-tool", "create", db, "/usr/share/openvswitch/vswitch.ovsschema"); err != nil {
			t.Fatal(err)
		}
		f.ovs.StartDatabase()
		waitFor(t, "the new connection", f.client.Connected)
		st := f.heal(t)
		if again, err := f.client.Apply(context.WithoutCancel(t.Context()), f.layout.Switch()); err != nil || again.Transactions != 0 {
			t.Errorf("after the repair: %d transactions, %v", again.Transactions, err)
		}
		if st.Ports["wm-gw0"].OFPort == 0 || st.Ports["eth0"].OFPort == 0 {
			t.Errorf("the wiped database is not repaired: %+v", st)
		}
	})
}
