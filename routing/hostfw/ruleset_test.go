// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"sigs.k8s.io/knftables"

	"github.com/waymark-net/waymark/internal/testgolden"
)

var equateNetip = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

// golden compares with the file of the test.
func golden(t *testing.T, got string) {
	t.Helper()
	testgolden.Compare(t, strings.ReplaceAll(t.Name(), "/", "_"), got)
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// full uses every part of a ruleset, in both families.
func full(mode SNAT) Ruleset {
	return Ruleset{
		Gateway: "wm-gw0", SNAT: mode,
		LocalPodCIDRs:      prefixes("10.10.1.0/24", "fd10:0:0:1::/64"),
		ClusterPodCIDRs:    prefixes("10.10.1.0/24", "10.10.2.0/24", "fd10:0:0:1::/64", "fd10:0:0:2::/64"),
		NodeAddresses:      addrs("172.30.0.11", "172.30.0.12", "fd30::11", "fd30::12"),
		NonMasqueradeCIDRs: prefixes("10.10.0.0/16", "192.168.0.0/17", "192.168.128.0/17", "fd99::/48"),
		SwitchedNICs:       []string{"eth1", "eth0", "eth1"},
	}
}

var rulesets = []struct {
	name  string
	rules Ruleset
}{
	{"auto", full(SNATAuto)},
	{"always", full(SNATAlways)},
	{"never", full(SNATNever)},
	{"v4only", Ruleset{
		Gateway: "wm-gw0", SNAT: SNATAuto, LocalPodCIDRs: prefixes("10.10.1.0/24"), ClusterPodCIDRs: prefixes("10.10.0.0/16"),
	}},
	{"v6only", Ruleset{
		Gateway: "wm-gw0", SNAT: SNATAuto, LocalPodCIDRs: prefixes("fd10:0:0:1::/64"), NodeAddresses: addrs("fd30::11"),
	}},
	{"noPods", Ruleset{Gateway: "wm-gw0", SNAT: SNATAuto}},
}

// applied is the fake's table after it was written.
func applied(t *testing.T, name string, want nftTable) (*knftables.Fake, nft) {
	t.Helper()
	fake := knftables.NewFake(knftables.InetFamily, name)
	n := nft{fake, name}
	mustWrite(t, n, want, true)
	return fake, n
}

func mustWrite(t *testing.T, n nft, want nftTable, changes bool) {
	t.Helper()
	if changed, err := n.apply(t.Context(), want); err != nil || changed != changes {
		t.Fatalf("apply: changed %v, %v; want %v", changed, err, changes)
	}
}

// goldenNFT compares what is written with the file of the test, and looks whether
// it is found to be in place.
func goldenNFT(t *testing.T, name string, want nftTable) {
	t.Helper()
	fake, n := applied(t, name, want)
	golden(t, fake.Dump())
	before := fake.LastTransaction
	mustWrite(t, n, want, false)
	if fake.LastTransaction != before {
		t.Error("the second apply wrote")
	}
}

func TestRenderNFT(t *testing.T) {
	for _, tt := range rulesets {
		t.Run(tt.name, func(t *testing.T) { goldenNFT(t, tableName, tt.rules.nft()) })
	}
}

// goldenIPT compares what is written into empty tables with the file of the test.
func goldenIPT(t *testing.T, tables []iptTable) {
	t.Helper()
	var b strings.Builder
	for _, table := range tables {
		b.WriteString(table.restore(iptState{}))
	}
	golden(t, b.String())
}

func TestRenderIPT(t *testing.T) {
	for _, tt := range rulesets {
		for name, is4 := range map[string]bool{"iptables": true, "ip6tables": false} {
			t.Run(tt.name+"/"+name, func(t *testing.T) { goldenIPT(t, renderIPT(tt.rules, is4, true)) })
		}
	}
}

// sorted is what the fake has, with elements in order.
func sorted(fake *knftables.Fake) []string {
	lines := strings.Split(fake.Dump(), "\n")
	first := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "add element") })
	slices.Sort(lines[first:])
	return lines
}

// repairs looks whether damage to the table is found and undone.
func repairs(t *testing.T, name string, table nftTable, damage func(tx *knftables.Transaction)) {
	t.Helper()
	fake, n := applied(t, name, table)
	want := sorted(fake)
	tx := fake.NewTransaction()
	damage(tx)
	if err := fake.Run(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, n, table, true)
	if diff := cmp.Diff(want, sorted(fake)); diff != "" {
		t.Errorf("not repaired (-want +got):\n%s", diff)
	}
}

func TestNFTFindsDrift(t *testing.T) {
	for name, damage := range map[string]func(tx *knftables.Transaction){
		"table gone": func(tx *knftables.Transaction) { tx.Delete(&knftables.Table{}) },
		"all rules but one gone": func(tx *knftables.Transaction) {
			const kept = `oifname "wm-gw0" return`
			tx.Flush(&knftables.Chain{Name: "postrouting"})
			tx.Add(&knftables.Rule{Chain: "postrouting", Rule: kept, Comment: knftables.PtrTo(fingerprint(kept))})
		},
		"rule added": func(tx *knftables.Transaction) {
			tx.Insert(&knftables.Rule{Chain: "postrouting", Rule: "accept"})
		},
		"element gone": func(tx *knftables.Transaction) {
			tx.Delete(&knftables.Element{Set: "no-masquerade-v4", Key: []string{"172.30.0.12"}})
		},
		"element added": func(tx *knftables.Transaction) {
			tx.Add(&knftables.Element{Set: "no-masquerade-v4", Key: []string{"203.0.113.13"}})
		},
		"chain added": func(tx *knftables.Transaction) { tx.Add(&knftables.Chain{Name: "other"}) },
	} {
		t.Run(name, func(t *testing.T) { repairs(t, tableName, full(SNATAuto).nft(), damage) })
	}
}

// TestNFTChanges: whatever differs is exchanged with the whole table, as intervals
// that come may overlap those that go.
func TestNFTChanges(t *testing.T) {
	grown := full(SNATAuto)
	grown.NodeAddresses = append(grown.NodeAddresses, addrs("172.30.0.13")...)
	for name, to := range map[string]Ruleset{"a node more": grown, "another mode": full(SNATNever), "nothing": full(SNATAuto)} {
		t.Run(name, func(t *testing.T) {
			fake, n := applied(t, tableName, full(SNATAuto).nft())
			before := fake.LastTransaction
			changed, err := n.change(t.Context(), full(SNATAuto).nft(), to.nft())
			if want := name != "nothing"; err != nil || changed != want || (fake.LastTransaction != before) != want {
				t.Fatalf("changed %v, %v; want %v", changed, err, want)
			}
			if changed && !strings.Contains(fake.LastTransaction.String(), "delete table inet waymark\n") {
				t.Errorf("not the whole table:\n%s", fake.LastTransaction)
			}
			fresh, _ := applied(t, tableName, to.nft())
			if d := cmp.Diff(fresh.Dump(), fake.Dump()); d != "" {
				t.Errorf("-from nothing +changed:\n%s", d)
			}
		})
	}
}

func TestIPTMatches(t *testing.T) {
	nat := renderIPT(full(SNATAuto), true, true)[2]
	good := func() iptState {
		s := iptState{jumps: []string{nat.jump()}, comments: map[string][]string{}}
		for _, c := range nat.chains {
			for _, r := range c.rules {
				s.comments[c.name] = append(s.comments[c.name], fingerprint(r))
			}
		}
		return s
	}
	if !nat.matches(good()) {
		t.Error("what was written does not match")
	}
	for name, damage := range map[string]func(*iptState){
		"no jump":      func(s *iptState) { s.jumps = nil },
		"two jumps":    func(s *iptState) { s.jumps = append(s.jumps, "-j WAYMARK-POSTROUTING") },
		"chain gone":   func(s *iptState) { delete(s.comments, chainSNAT) },
		"rule gone":    func(s *iptState) { s.comments[chainSNAT] = s.comments[chainSNAT][1:] },
		"rule foreign": func(s *iptState) { s.comments[chainSNAT][0] = "" },
	} {
		s := good()
		damage(&s)
		if nat.matches(s) {
			t.Errorf("%s: not found", name)
		}
	}
}

func TestAggregate(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   []netip.Prefix
		is4  bool
		want []netip.Prefix
	}{
		{"nothing", nil, true, nil},
		{"one family", prefixes("10.0.0.0/24", "fd00::/64"), false, prefixes("fd00::/64")},
		{"contained and equal", prefixes("10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8"), true, prefixes("10.0.0.0/8")},
		{"halves", prefixes("10.0.1.0/24", "10.0.0.0/24"), true, prefixes("10.0.0.0/23")},
		{"halves of halves", prefixes("10.0.3.0/24", "10.0.2.0/24", "10.0.0.0/23"), true, prefixes("10.0.0.0/22")},
		{"neighbours, no halves", prefixes("10.0.1.0/24", "10.0.2.0/24"), true, prefixes("10.0.1.0/24", "10.0.2.0/24")},
		{"unmasked", prefixes("10.0.1.7/24"), true, prefixes("10.0.1.0/24")},
		{"all", prefixes("128.0.0.0/1", "0.0.0.0/1", "0.0.0.0/0"), true, prefixes("0.0.0.0/0")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, aggregate(tt.in, tt.is4), equateNetip); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzAggregate(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0, 24, 10, 0, 1, 0, 24, 10, 0, 0, 0, 8})
	f.Fuzz(func(t *testing.T, b []byte) {
		var in []netip.Prefix
		for ; len(b) >= 5; b = b[5:] {
			in = append(in, netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), int(b[4])%33))
		}
		out := aggregate(in, true)
		covered := func(set []netip.Prefix, a netip.Addr) bool {
			for _, p := range set {
				if p.Contains(a) {
					return true
				}
			}
			return false
		}
		for i, p := range out {
			if i > 0 && out[i-1].Overlaps(p) {
				t.Errorf("%v and %v overlap", out[i-1], p)
			}
			if !covered(in, p.Addr()) {
				t.Errorf("%v was not in %v", p, in)
			}
		}
		for _, p := range in {
			if !covered(out, p.Addr()) {
				t.Errorf("%v is lost in %v", p, out)
			}
		}
	})
}

func TestForwardDrops(t *testing.T) {
	for _, tt := range []struct {
		rules []string
		want  bool
	}{
		{[]string{"-P FORWARD ACCEPT"}, false},
		{[]string{"-P FORWARD DROP"}, true},
		{[]string{"-P FORWARD ACCEPT", "-A FORWARD -i eth9 -j DROP"}, false},
		{[]string{"-P FORWARD ACCEPT", "-A FORWARD -j REJECT --reject-with icmp-host-prohibited"}, true},
	} {
		if got := forwardDrops(tt.rules); got != tt.want {
			t.Errorf("forwardDrops(%q) = %v", tt.rules, got)
		}
	}
}

func TestCommentsOf(t *testing.T) {
	got := commentsOf([]string{
		"-N WAYMARK-SNAT",
		`-A WAYMARK-SNAT -d 10.0.0.0/8 -m comment --comment "waymark:0011aabb" -j RETURN`,
		`-A WAYMARK-SNAT -m comment --comment waymark:ffeeddcc -j MASQUERADE`,
		`-A WAYMARK-SNAT -m comment --comment "other" -j RETURN`,
		`-A WAYMARK-SNAT -j RETURN`,
	})
	if diff := cmp.Diff([]string{"waymark:0011aabb", "waymark:ffeeddcc", "", ""}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
