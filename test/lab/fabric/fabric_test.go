// SPDX-License-Identifier: Apache-2.0

package fabric

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/test/lab/topology"
)

func layout(t *testing.T, edit func(*topology.Spec)) *topology.Topology {
	t.Helper()
	spec := topology.DefaultSpec()
	spec.Nodes, spec.Racks = 1, 1
	edit(&spec)
	topo, err := topology.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

func TestLinks(t *testing.T) {
	topo := layout(t, func(s *topology.Spec) { s.LinkMTU = map[string]int{"torA-spine": 1400} })
	want := `link add name rackA mtu 1500 netns x.torA type veth peer name torA mtu 1500 netns x.rackA
link add name spine mtu 1400 netns x.torA type veth peer name torA mtu 1400 netns x.spine
link add name eth0 mtu 1500 netns x.cp type veth peer name cp mtu 1500 netns x.spine
link add name eth0 mtu 1500 netns x.client type veth peer name client mtu 1500 netns x.spine
link add name eth0 mtu 1500 netns x.n1 type veth peer name n1 mtu 1500 netns x.rackA
`
	got := Links(topo.Links, func(host string) string { return "x." + host })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfigure(t *testing.T) {
	for _, tc := range []struct {
		name, host string
		edit       func(*topology.Spec)
		want       string
	}{
		{
			name: "node", host: "n1", edit: func(*topology.Spec) {},
			want: `link set lo up
addr add 172.30.1.11/24 dev eth0
addr add fd30:0:0:1::11/64 dev eth0 nodad
link set eth0 up
route add 0.0.0.0/0 via 172.30.1.1
route add ::/0 via fd30:0:0:1::1
`,
		},
		{
			name: "node with two gateways", host: "n1", edit: func(s *topology.Spec) { s.DualHomed, s.Families = true, topology.IPv6 },
			want: `link set lo up
addr add fd30:0:0:1::11/64 dev eth0 nodad
link set eth0 up
route add ::/0 metric 1024 nexthop via fd30:0:0:1::1 nexthop via fd30:0:0:1::2
`,
		},
		{
			name: "switch", host: "rackA", edit: func(*topology.Spec) {},
			want: `link set lo up
link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
link set br0 up
link set torA master br0
link set torA up
link set n1 master br0
link set n1 up
`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, ok := layout(t, tc.edit).Host(tc.host)
			if !ok {
				t.Fatal("no such host")
			}
			if diff := cmp.Diff(tc.want, Configure(h)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigureInterface(t *testing.T) {
	h, _ := layout(t, func(*topology.Spec) {}).Host("rackA")
	want := "link set n1 master br0\nlink set n1 up\n"
	if diff := cmp.Diff(want, ConfigureInterface(h, "n1")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := ConfigureInterface(h, "n9"); got != "" {
		t.Errorf("no such interface: %q", got)
	}
}
