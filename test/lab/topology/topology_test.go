// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// render writes one line an interface, which is what the layout is about.
func render(t *Topology) string {
	var b strings.Builder
	for _, h := range t.Hosts {
		fmt.Fprintf(&b, "%s %s", h.Name, h.Role)
		if h.ASN != 0 {
			fmt.Fprintf(&b, " asn=%d id=%s", h.ASN, h.RouterID)
		}
		for _, g := range h.Gateways {
			fmt.Fprintf(&b, " gw=%s", g)
		}
		b.WriteString("\n")
		for _, i := range h.Interfaces {
			fmt.Fprintf(&b, "  %s to %s %v\n", i.Name, i.Peer, i.Addresses)
		}
	}
	return b.String()
}

func TestNew(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*Spec)
		want string
	}{
		{
			name: "default",
			edit: func(*Spec) {},
			want: `spine spine asn=65000 id=192.0.2.0
  torA to torA [172.31.0.2/31 fd31::2/127]
  torB to torB [172.31.0.4/31 fd31::4/127]
  cp to cp [172.30.100.1/24 fd30:0:0:100::1/64]
  client to client [172.30.200.1/24 fd30:0:0:200::1/64]
rackA switch
  torA to torA []
  n1 to n1 []
  n2 to n2 []
torA tor asn=65001 id=192.0.2.1
  rackA to rackA [172.30.1.1/24 fd30:0:0:1::1/64]
  spine to spine [172.31.0.3/31 fd31::3/127]
rackB switch
  torB to torB []
  n3 to n3 []
torB tor asn=65002 id=192.0.2.2
  rackB to rackB [172.30.2.1/24 fd30:0:0:2::1/64]
  spine to spine [172.31.0.5/31 fd31::5/127]
cp control-plane gw=172.30.100.1 gw=fd30:0:0:100::1
  eth0 to spine [172.30.100.10/24 fd30:0:0:100::10/64]
client client gw=172.30.200.1 gw=fd30:0:0:200::1
  eth0 to spine [172.30.200.10/24 fd30:0:0:200::10/64]
n1 node gw=172.30.1.1 gw=fd30:0:0:1::1
  eth0 to rackA [172.30.1.11/24 fd30:0:0:1::11/64]
n2 node gw=172.30.1.1 gw=fd30:0:0:1::1
  eth0 to rackA [172.30.1.12/24 fd30:0:0:1::12/64]
n3 node gw=172.30.2.1 gw=fd30:0:0:2::1
  eth0 to rackB [172.30.2.13/24 fd30:0:0:2::13/64]
`,
		},
		{
			name: "dual-homed, IPv6, iBGP",
			edit: func(s *Spec) {
				s.Nodes, s.Racks, s.Families, s.DualHomed, s.Routers.IBGP = 1, 1, IPv6, true, true
			},
			want: `spine spine asn=65000 id=192.0.2.0
  torA to torA [fd31::2/127]
  torA2 to torA2 [fd31::ca/127]
  cp to cp [fd30:0:0:100::1/64]
  client to client [fd30:0:0:200::1/64]
rackA switch
  torA to torA []
  torA2 to torA2 []
  n1 to n1 []
torA tor asn=64512 id=192.0.2.1 gw=fd30:0:0:1::2
  rackA to rackA [fd30:0:0:1::1/64]
  spine to spine [fd31::3/127]
torA2 tor asn=64512 id=192.0.2.101 gw=fd30:0:0:1::1
  rackA to rackA [fd30:0:0:1::2/64]
  spine to spine [fd31::cb/127]
cp control-plane gw=fd30:0:0:100::1
  eth0 to spine [fd30:0:0:100::10/64]
client client gw=fd30:0:0:200::1
  eth0 to spine [fd30:0:0:200::10/64]
n1 node gw=fd30:0:0:1::1 gw=fd30:0:0:1::2
  eth0 to rackA [fd30:0:0:1::11/64]
`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := DefaultSpec()
			tc.edit(&spec)
			got, err := New(spec)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, render(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			// What is recorded is what comes back.
			data, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			var back Topology
			if err := json.Unmarshal(data, &back); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, &back, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("JSON (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*Spec)
		want []string // in the error
	}{
		{"no rack", func(s *Spec) { s.Racks = 0 }, []string{"racks: 0"}},
		{"too many nodes", func(s *Spec) { s.Nodes = 401 }, []string{"nodes: 401"}},
		{"family", func(s *Spec) { s.Families = "ipv5" }, []string{`families: "ipv5"`}},
		{"session over the wrong family", func(s *Spec) { s.Families, s.Routers.Session = IPv4, OverIPv6 }, []string{"sessions over ipv6"}},
		{"MTU below the IPv6 minimum", func(s *Spec) { s.MTU = 1279 }, []string{"1279, want 1280"}},
		{"two mistakes", func(s *Spec) { s.Routers.NodeASN, s.Routers.Hold = 0, 1 }, []string{"node ASN", "timers"}},
		{"MTU of no link", func(s *Spec) { s.LinkMTU = map[string]int{"n1-n2": 1400} }, []string{"no such link", "torA-spine"}},
		{"network", func(s *Spec) { s.Networks.PodIPv4 = netip.MustParsePrefix("fd00::/48") }, []string{"Pod IPv4 network: fd00::/48"}},
		{"host bits", func(s *Spec) { s.Networks.HostIPv4 = netip.MustParsePrefix("172.30.0.1/16") }, []string{"host IPv4 network"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := DefaultSpec()
			tc.edit(&spec)
			_, err := New(spec)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

func TestNodesComeAndGo(t *testing.T) {
	topo, err := New(DefaultSpec())
	if err != nil {
		t.Fatal(err)
	}
	before := render(topo)
	node, err := topo.AddNode("extra", "B")
	if err != nil {
		t.Fatal(err)
	}
	if want := "[172.30.2.14 fd30:0:0:2::14]"; fmt.Sprint(node.Addresses()) != want {
		t.Errorf("addresses %v, want %s", node.Addresses(), want)
	}
	if link, ok := topo.Link("rackB-extra"); !ok || link.Name != "extra-rackB" {
		t.Errorf("Link = %+v, %t", link, ok)
	}
	if _, err := topo.AddNode("extra", "A"); err == nil {
		t.Error("second node of one name: no error")
	}
	if _, err := topo.AddNode("other", "C"); err == nil {
		t.Error("no such rack: no error")
	}
	if err := topo.RemoveNode("extra"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, render(topo)); diff != "" {
		t.Errorf("after removal (-want +got):\n%s", diff)
	}
	if err := topo.RemoveNode("torA"); err == nil {
		t.Error("removal of a router: no error")
	}
	next, err := topo.AddNode("n4", "B")
	if err != nil || next.Addresses()[0] == node.Addresses()[0] {
		t.Errorf("address given again: %v, %v", next.Addresses(), err)
	}
}
