// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/knftables"
)

const (
	tcp  = 6
	udp  = 17
	sctp = 132
)

func alias(addr string, protocol uint8, to string) ServiceAlias {
	return ServiceAlias{Addr: netip.MustParseAddrPort(addr), Protocol: protocol, To: netip.MustParseAddr(to)}
}

// fullServices uses every part of the rules, in both families.
func fullServices() ServiceRules {
	return ServiceRules{
		Gateway:   "wm-gw0",
		NodePorts: []ServicePort{{udp, 30053}, {tcp, 30080}, {sctp, 30009}, {tcp, 30443}, {tcp, 30080}},
		To4:       netip.MustParseAddr("169.254.87.78"), To6: netip.MustParseAddr("100::574e"),
		Aliases: []ServiceAlias{
			alias("172.30.0.11:443", tcp, "169.254.96.1"), alias("172.30.0.11:53", udp, "169.254.96.1"),
			alias("[fd30::11]:443", tcp, "100::574e:0:1"),
		},
		NodeClients: nodeClients(),
	}
}

func nodeClients() []NodeClient {
	return []NodeClient{
		{As: netip.MustParseAddr("100::574f"), Node: netip.MustParseAddr("fd30::11")},
		{As: netip.MustParseAddr("169.254.87.79"), Node: netip.MustParseAddr("172.30.0.11")},
	}
}

func changedServices(mod func(*ServiceRules)) ServiceRules {
	r := fullServices()
	mod(&r)
	return r
}

func manyPorts(n int) []ServicePort {
	var out []ServicePort
	for i := range n {
		out = append(out, ServicePort{tcp, uint16(30000 + i)})
	}
	return out
}

var serviceRulesets = []struct {
	name  string
	rules ServiceRules
}{
	{"full", fullServices()},
	{"chosenAddresses", changedServices(func(r *ServiceRules) {
		r.NodePortAddrs = prefixes("172.30.0.0/24", "10.0.0.1/32", "10.0.0.0/32")
		r.Aliases = nil
	})},
	{"everyAddress", changedServices(func(r *ServiceRules) { r.NodePortAddrs = prefixes("0.0.0.0/0", "fd30::/64") })},
	{"v4only", changedServices(func(r *ServiceRules) { r.To6, r.Aliases = netip.Addr{}, nil })},
	{"aliasesOnly", changedServices(func(r *ServiceRules) { r.NodePorts = nil })},
	{"manyPorts", ServiceRules{NodePorts: append(manyPorts(31), ServicePort{udp, 30000}), To4: netip.MustParseAddr("169.254.87.78")}},
}

// serviceTable is what the rules make of nftables.
func serviceTable(t *testing.T, r ServiceRules) nftTable {
	t.Helper()
	return normal(t, r).nft()
}

func TestRenderServicesNFT(t *testing.T) {
	for _, tt := range serviceRulesets {
		t.Run(tt.name, func(t *testing.T) { goldenNFT(t, serviceTableName, serviceTable(t, tt.rules)) })
	}
}

func TestRenderServicesIPT(t *testing.T) {
	for _, tt := range serviceRulesets {
		for name, is4 := range map[string]bool{"iptables": true, "ip6tables": false} {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				goldenIPT(t, renderServicesIPT(normal(t, tt.rules), is4))
			})
		}
	}
}

// TestServicesChangeByElements: neither table nor rules are written again for a
// port or an alias.
func TestServicesChangeByElements(t *testing.T) {
	for _, tt := range []struct {
		name string
		to   func(*ServiceRules)
		want string
	}{
		{"port added", func(r *ServiceRules) { r.NodePorts = append(r.NodePorts, ServicePort{udp, 30081}) },
			"add element inet waymark-services node-ports { 17 . 30081 }\n"},
		{"port gone", func(r *ServiceRules) { r.NodePorts = r.NodePorts[1:] },
			"delete element inet waymark-services node-ports { 17 . 30053 }\n"},
		{"alias gone", func(r *ServiceRules) { r.Aliases = r.Aliases[:2] },
			"delete element inet waymark-services aliases-v6 { fd30::11 . 6 . 443 }\n"},
		{"another alias", func(r *ServiceRules) { r.Aliases[1].To = netip.MustParseAddr("169.254.96.9") },
			"delete element inet waymark-services aliases-v4 { 172.30.0.11 . 17 . 53 }\n" +
				"add element inet waymark-services aliases-v4 { 172.30.0.11 . 17 . 53 : 169.254.96.9 }\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fake, n := applied(t, serviceTableName, serviceTable(t, fullServices()))
			next := changedServices(tt.to)
			mustWrite(t, n, serviceTable(t, next), true)
			if d := cmp.Diff(tt.want, fake.LastTransaction.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			fresh, _ := applied(t, serviceTableName, serviceTable(t, next))
			if d := cmp.Diff(sorted(fresh), sorted(fake)); d != "" {
				t.Errorf("-from nothing +by elements:\n%s", d)
			}
		})
	}
}

func TestServicesFromAnyToAny(t *testing.T) {
	nothing := ServiceRules{To4: fullServices().To4, To6: fullServices().To6}
	all := append(slices.Clip(serviceRulesets), struct {
		name  string
		rules ServiceRules
	}{"nothing", nothing})
	for _, from := range all {
		for _, to := range all {
			if from.name == "nothing" || from.name == to.name {
				continue
			}
			fake, n := applied(t, serviceTableName, serviceTable(t, from.rules))
			mustWrite(t, n, serviceTable(t, to.rules), true)
			if to.name == "nothing" {
				if got, err := fake.List(t.Context(), "chains"); err == nil {
					t.Errorf("from %s to nothing: there is still a table with chains %v", from.name, got)
				}
				mustWrite(t, n, serviceTable(t, to.rules), false)
				continue
			}
			fresh, _ := applied(t, serviceTableName, serviceTable(t, to.rules))
			if d := cmp.Diff(sorted(fresh), sorted(fake)); d != "" {
				t.Errorf("from %s to %s (-want +got):\n%s", from.name, to.name, d)
			}
		}
	}
}

func TestServicesFindDrift(t *testing.T) {
	for name, damage := range map[string]func(tx *knftables.Transaction){
		"table gone": func(tx *knftables.Transaction) { tx.Delete(&knftables.Table{}) },
		"rules gone": func(tx *knftables.Transaction) { tx.Flush(&knftables.Chain{Name: "services"}) },
		"rule added": func(tx *knftables.Transaction) {
			tx.Insert(&knftables.Rule{Chain: "prerouting", Rule: "accept"})
		},
		"port gone": func(tx *knftables.Transaction) {
			tx.Delete(&knftables.Element{Set: "node-ports", Key: []string{"6", "30080"}})
		},
		"port added": func(tx *knftables.Transaction) {
			tx.Add(&knftables.Element{Set: "node-ports", Key: []string{"6", "22"}})
		},
		"alias turned": func(tx *knftables.Transaction) {
			k := []string{"172.30.0.11", "6", "443"}
			tx.Delete(&knftables.Element{Map: "aliases-v4", Key: k})
			tx.Add(&knftables.Element{Map: "aliases-v4", Key: k, Value: []string{"203.0.113.13"}})
		},
		"set added":   func(tx *knftables.Transaction) { tx.Add(&knftables.Set{Name: "other", Type: "ipv4_addr"}) },
		"chain added": func(tx *knftables.Transaction) { tx.Add(&knftables.Chain{Name: "other"}) },
	} {
		t.Run(name, func(t *testing.T) { repairs(t, serviceTableName, serviceTable(t, fullServices()), damage) })
	}
}

func TestServiceRulesRefused(t *testing.T) {
	rules, err := ServiceRules{
		NodePorts: []ServicePort{{1, 30000}, {tcp, 0}},
		Aliases: []ServiceAlias{
			alias("172.30.0.11:443", tcp, "100::1"), {Addr: netip.MustParseAddrPort("172.30.0.11:80"), Protocol: tcp},
			alias("172.30.0.11:0", udp, "169.254.96.1"),
			alias("172.30.0.11:81", udp, "169.254.96.2"), alias("172.30.0.11:81", udp, "169.254.96.1"),
		},
		To4:         netip.MustParseAddr("169.254.87.78"),
		NodeClients: append(nodeClients(), NodeClient{As: netip.MustParseAddr("169.254.87.79"), Node: netip.MustParseAddr("fd30::11")}),
	}.normal()
	const want = `NodePort 30000: protocol 1 is none of TCP (6), UDP (17) and SCTP (132)
NodePort 0: port 0 is not from 1 to 65535
alias of 172.30.0.11:443: 100::1 is not an address of its family
alias of 172.30.0.11:80: invalid IP is not an address of its family
alias of 172.30.0.11:0: port 0 is not from 1 to 65535
client of the node: 169.254.87.79 and fd30::11 are not addresses of one family`
	if err == nil {
		t.Fatal("no error")
	}
	if d := cmp.Diff(want, err.Error()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	good := serviceRules{families: [2]serviceFamily{{aliases: []ServiceAlias{alias("172.30.0.11:81", udp, "169.254.96.1")}}}}
	if d := cmp.Diff(good, rules, cmp.AllowUnexported(serviceRules{}, serviceFamily{}), equateNetip, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestCanonical(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"tcp 80", "6 . 80"}, {"17 53", "17 . 53"}, {"10.0.0.1 sctp 9", "10.0.0.1 . 132 . 9"},
		{"fd30:0::11", "fd30::11"}, {"10.0.0.0/8", "10.0.0.0/8"}, {"10.0.0.1/32", "10.0.0.1"}, {"10.0.0.1-10.0.0.3", "10.0.0.1-10.0.0.3"},
	} {
		if got := canonical(strings.Fields(tt.in)); got != tt.want {
			t.Errorf("canonical(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}
