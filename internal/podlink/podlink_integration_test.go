// SPDX-License-Identifier: Apache-2.0

//go:build integration

package podlink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testnet"
)

// testLink is a dual-stack link of container c1 to the namespace.
func testLink(ns *testnet.Namespace, container string) Link {
	return Link{
		HostInterface: HostInterface(container, "eth0"),
		Alias:         "default/web",
		NetNS:         ns.Path(),
		IfName:        "eth0",
		MAC:           MAC(container, "eth0"),
		MTU:           1450,
		HostMTU:       1500,
		Addresses: []Address{
			{Addr: netip.MustParseAddr("10.10.1.2"), Gateway: netip.MustParseAddr("10.10.1.1")},
			{Addr: netip.MustParseAddr("fd10:0:0:1::2"), Gateway: netip.MustParseAddr("fd10:0:0:1::1")},
		},
		GatewayMAC: net.HardwareAddr{0x0a, 0x57, 0x4d, 0, 0, 1},
		Datapath:   Netdev,
	}
}

func mustCreate(t *testing.T, link Link) {
	t.Helper()
	if err := (Links{}).Create(t.Context(), link); err != nil {
		t.Fatal(err)
	}
}

// wantLinks fails unless these are all the hosts' ends there are.
func wantLinks(t *testing.T, want ...string) {
	t.Helper()
	got, err := Links{}.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("host interfaces (-want +got):\n%s", d)
	}
}

func TestCreate(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		pod := testnet.New(t, "pod")
		link := testLink(pod, "c1")
		mustCreate(t, link)
		wantLinks(t, link.HostInterface)
		if err := (Links{}).Check(t.Context(), link); err != nil {
			t.Error(err)
		}
		for command, want := range map[string][]string{
			"ip -o address show dev eth0": {
				"inet 10.10.1.2/32 scope global", "inet6 fd10:0:0:1::2/128 scope global nodad",
				"inet6 fe80::" + linkLocalSuffix(link.MAC) + "/64 scope link",
			},
			"ip -4 route": {"default via 10.10.1.1 dev eth0", "10.10.1.1 dev eth0 scope link"},
			"ip -6 route": {"default via fd10:0:0:1::1 dev eth0", "fd10:0:0:1::1 dev eth0"},
			"ip neigh": {
				"10.10.1.1 dev eth0 lladdr 0a:57:4d:00:00:01 PERMANENT",
				"fd10:0:0:1::1 dev eth0 lladdr 0a:57:4d:00:00:01 PERMANENT",
			},
			"ip link show eth0": {"mtu 1450", "state UP", link.MAC.String()},
			"ethtool -k eth0":   {"tx-checksumming: off", "tx-tcp-segmentation: off", "tx-tcp6-segmentation: off", "tx-udp-segmentation: off"},
		} {
			out := pod.Exec(t, command)
			for _, w := range want {
				if !strings.Contains(out, w) {
					t.Errorf("%s does not say %q:\n%s", command, w, out)
				}
			}
			for line := range strings.Lines(out) {
				// The kernel's own address is, for a moment.
				if strings.Contains(line, "tentative") && !strings.Contains(line, "scope link") {
					t.Errorf("%s: an address is tentative:\n%s", command, out)
				}
			}
		}
		host := node.Exec(t, "ip -d address show dev "+link.HostInterface)
		for _, w := range []string{"mtu 1500", "state UP", "alias default/web"} {
			if !strings.Contains(host, w) {
				t.Errorf("host's end does not say %q:\n%s", w, host)
			}
		}
		if strings.Contains(host, "inet") {
			t.Errorf("the host's end has an address:\n%s", host)
		}
	})
}

// linkLocalSuffix is the interface identifier of RFC 4291, appendix A, as ip
// writes it.
func linkLocalSuffix(mac net.HardwareAddr) string {
	a := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff,
		12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
	return strings.TrimPrefix(a.String(), "fe80::")
}

func TestCreateKeepsOffloadsInKernelDatapath(t *testing.T) {
	testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) {
		pod := testnet.New(t, "pod")
		link := testLink(pod, "c1")
		link.Datapath = System
		mustCreate(t, link)
		if out := pod.Exec(t, "ethtool -k eth0"); !strings.Contains(out, "tx-checksumming: on") {
			t.Errorf("TX checksum offload was turned off:\n%s", out)
		}
	})
}

// TestStackIsOff sends to the host's end what a Pod could send to get past the
// switch, and expects that the kernel says nothing.
func TestStackIsOff(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		node.Exec(t, "ip address add 10.10.1.1/24 dev lo")
		node.Exec(t, "ip address add fd10:0:0:1::1/64 dev lo nodad")
		node.Exec(t, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
		pod := testnet.New(t, "pod")
		link := testLink(pod, "c1")
		mustCreate(t, link)
		mac := strings.TrimSpace(node.Exec(t, "cat /sys/class/net/"+link.HostInterface+"/address"))
		for _, gateway := range []string{"10.10.1.1", "fd10:0:0:1::1"} {
			pod.Exec(t, "ip neigh del "+gateway+" dev eth0")
			_ = pod.Try("ping -c1 -W1 " + gateway)
			if out := pod.Exec(t, "ip neigh show "+gateway); strings.Contains(out, "lladdr") {
				t.Errorf("the kernel said who has %s: %s", gateway, out)
			}
			for _, to := range []string{mac, "ff:ff:ff:ff:ff:ff"} {
				pod.Exec(t, "ip neigh replace "+gateway+" lladdr "+to+" dev eth0")
				_ = pod.Try("ping -c1 -W1 " + gateway)
			}
		}
		for _, counter := range []string{"IcmpInEchos", "Icmp6InEchos"} {
			if got := strings.Fields(node.Exec(t, "nstat -asz "+counter)); got[len(got)-2] != "0" {
				t.Errorf("pings reached the kernel: %v", got)
			}
		}
	})
}

func TestCreateReplacesLeftover(t *testing.T) {
	testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) {
		link := testLink(testnet.New(t, "pod"), "c1")
		mustCreate(t, link)
		mustCreate(t, link)
		if err := (Links{}).Check(t.Context(), link); err != nil {
			t.Error(err)
		}
		// Also when the leftover's other end is elsewhere.
		link.NetNS = testnet.New(t, "pod2").Path()
		mustCreate(t, link)
		wantLinks(t, link.HostInterface)
	})
}

func TestCreateFailsWhole(t *testing.T) {
	tests := map[string]struct {
		change func(*testing.T, *testnet.Namespace, *Link)
		want   error
	}{
		"no namespace": {func(_ *testing.T, _ *testnet.Namespace, l *Link) { l.NetNS = "/run/netns/none" }, ErrNoNamespace},
		"no path":      {func(_ *testing.T, _ *testnet.Namespace, l *Link) { l.NetNS = "" }, ErrNoNamespace},
		"plain file": {func(t *testing.T, _ *testnet.Namespace, l *Link) {
			l.NetNS = "/run/netns/file"
			if err := os.WriteFile(l.NetNS, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrNotNamespace},
		"another kind of namespace": {func(_ *testing.T, _ *testnet.Namespace, l *Link) { l.NetNS = "/proc/self/ns/mnt" }, ErrNotNamespace},
		"the host's":                {func(_ *testing.T, _ *testnet.Namespace, l *Link) { l.NetNS = "/run/netns/root" }, ErrNotNamespace},
		"interface taken": {func(t *testing.T, pod *testnet.Namespace, _ *Link) {
			pod.Exec(t, "ip link add eth0 type bridge")
		}, ErrInterfaceExists},
		"Pod's end cannot be configured": {func(_ *testing.T, _ *testnet.Namespace, l *Link) {
			l.Addresses = append(l.Addresses, l.Addresses[0])
		}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) {
				pod := testnet.New(t, "pod")
				link := testLink(pod, "c1")
				tc.change(t, pod, &link)
				err := Links{}.Create(t.Context(), link)
				if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
					t.Errorf("got error %v, want %v", err, tc.want)
				}
				wantLinks(t)
			})
		})
	}
}

func TestCheckFinds(t *testing.T) {
	tests := map[string]struct {
		broken string // run in the Pod
		host   string // run on the host, with the name of the host's end
		want   string
	}{
		"address":      {broken: "ip address del 10.10.1.2/32 dev eth0", want: "no address 10.10.1.2/32"},
		"IPv6 address": {broken: "ip address del fd10:0:0:1::2/128 dev eth0", want: "no address fd10:0:0:1::2/128"},
		"default":      {broken: "ip route del default", want: "no route to 0.0.0.0/0"},
		"IPv6 default": {broken: "ip -6 route del default", want: "no route to ::/0"},
		"down":         {broken: "ip link set eth0 down", want: "eth0 is down"},
		"MAC":          {broken: "ip link set eth0 address 02:00:00:00:00:99", want: "MAC of eth0 is 02:00:00:00:00:99"},
		"MTU":          {broken: "ip link set eth0 mtu 1300", want: "MTU of eth0 is 1300, not 1450"},
		"offload":      {broken: "ethtool -K eth0 tx on", want: "TX checksum offload of eth0 is on"},
		"renamed":      {broken: "ip link set eth0 name eth1", want: "no interface eth0 in the Pod"},
		"host down":    {host: "ip link set %s down", want: " is down"},
		"gone":         {host: "ip link del %s", want: "on the host; no interface eth0 in the Pod"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
				pod := testnet.New(t, "pod")
				link := testLink(pod, "c1")
				mustCreate(t, link)
				if tc.broken != "" {
					pod.Exec(t, tc.broken)
				} else {
					node.Exec(t, fmt.Sprintf(tc.host, link.HostInterface))
				}
				err := Links{}.Check(t.Context(), link)
				if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("got error %v, want %q", err, tc.want)
				}
			})
		})
	}
}

func TestDeleteAndNamespaceEnd(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		links := Links{}
		one, two := testLink(testnet.New(t, "one"), "c1"), testLink(testnet.New(t, "two"), "c2")
		mustCreate(t, one)
		mustCreate(t, two)
		node.Exec(t, "ip link add wm-gw0 type bridge") // not a Pod's
		for range 2 {
			if err := links.Delete(t.Context(), one.HostInterface); err != nil {
				t.Error(err)
			}
		}
		wantLinks(t, two.HostInterface)
		for path, want := range map[string]bool{two.NetNS: true, "/run/netns/none": false, "": false, "/etc/hostname": false} {
			if got, err := links.NamespaceExists(path); err != nil || got != want {
				t.Errorf("NamespaceExists(%q) is %v, %v", path, got, err)
			}
		}
	})
}

func TestMTU(t *testing.T) {
	testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) {
		link := testLink(testnet.New(t, "pod"), "c1")
		mustCreate(t, link)
		for _, mtu := range []int{1280, 8950} {
			link.MTU, link.HostMTU = mtu, 9000
			if _, err := (Links{}).Repair(t.Context(), link); err != nil {
				t.Fatal(err)
			}
			if err := (Links{}).Check(t.Context(), link); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestSendMTU: what a Pod sends can be less than what it gets, in both families, from
// its beginning on or later, and back.
func TestSendMTU(t *testing.T) {
	testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) {
		pod := testnet.New(t, "pod")
		link := testLink(pod, "c1")
		link.SendMTU = 1400
		mustCreate(t, link)
		check := func(want string) {
			t.Helper()
			for _, family := range []string{"-4", "-6"} {
				if got := pod.Exec(t, "ip "+family+" route show default"); strings.Contains(got, "mtu") != (want != "") || !strings.Contains(got, want) {
					t.Errorf("with SendMTU %d: %q, want %q", link.SendMTU, got, want)
				}
			}
			if err := (Links{}).Check(t.Context(), link); err != nil {
				t.Error(err)
			}
		}
		check("mtu 1400")
		for _, step := range []struct {
			mtu, send int
			want      string
		}{{1450, 1300, "mtu 1300"}, {1450, 1300, "mtu 1300"}, {1450, 1450, ""}, {1500, 1450, "mtu 1450"}, {1500, 0, ""}} {
			link.MTU, link.SendMTU = step.mtu, step.send
			if _, err := (Links{}).Repair(t.Context(), link); err != nil {
				t.Fatal(err)
			}
			check(step.want)
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) {
		var wg sync.WaitGroup
		for i := range 50 {
			pod := testnet.New(t, fmt.Sprintf("pod%d", i))
			wg.Go(func() {
				link := testLink(pod, fmt.Sprintf("c%d", i))
				if err := (Links{}).Create(t.Context(), link); err != nil {
					t.Error(err)
				}
				if err := (Links{}).Check(t.Context(), link); err != nil {
					t.Error(err)
				}
				if err := (Links{}).Delete(t.Context(), link.HostInterface); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		wantLinks(t)
	})
}
