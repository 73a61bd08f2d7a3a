// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"net/netip"
	"strings"

	"sigs.k8s.io/knftables"
)

// tableName is our table, of family inet.
const tableName = "waymark"

// nftTable is a table as data: what is to be, and what can be compared.
type nftTable struct {
	sets   []nftSet
	chains []nftChain
}

type nftSet struct {
	name, typ string
	elements  []netip.Prefix
}

// nftChain is a base chain with its rules.
type nftChain struct {
	name     string
	typ      knftables.BaseChainType
	hook     knftables.BaseChainHook
	priority knftables.BaseChainPriority
	rules    []string
}

// renderNFT says which table a ruleset makes.
func renderNFT(r Ruleset) nftTable {
	var t nftTable
	gw := `"` + r.Gateway + `"`
	if nics := r.switchedNICs(); len(nics) > 0 {
		t.chains = append(t.chains, nftChain{
			"prerouting", knftables.FilterType, knftables.PreroutingHook, knftables.RawPriority,
			[]string{`iifname { "` + strings.Join(nics, `", "`) + `" } drop`},
		})
	}
	post := nftChain{"postrouting", knftables.NATType, knftables.PostroutingHook, knftables.SNATPriority, []string{"oifname " + gw + " return"}}
	families := []struct{ ip, suffix, typ string }{{"ip", "-v4", "ipv4_addr"}, {"ip6", "-v6", "ipv6_addr"}}
	for i, fam := range families {
		if f := r.family(i == 0); f.masquerades() {
			t.sets = append(t.sets,
				nftSet{"local-pods" + fam.suffix, fam.typ, f.local},
				nftSet{"no-masquerade" + fam.suffix, fam.typ, f.noMasquerade})
			post.rules = append(post.rules, fam.ip+" saddr @local-pods"+fam.suffix+" "+
				fam.ip+" daddr != @no-masquerade"+fam.suffix+" masquerade fully-random")
		}
	}
	t.chains = append(t.chains, post)
	return t
}

// write puts the whole table into a transaction, in place of what there was.
func (t nftTable) write(tx *knftables.Transaction) {
	// Adding first makes the deletion valid in either case.
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	tx.Add(&knftables.Table{Comment: knftables.PtrTo("rules of Waymark; changes made by hand are undone")})
	for _, s := range t.sets {
		tx.Add(&knftables.Set{Name: s.name, Type: s.typ, Flags: []knftables.SetFlag{knftables.IntervalFlag}})
		for _, e := range s.elements {
			tx.Add(&knftables.Element{Set: s.name, Key: []string{elementText(e)}})
		}
	}
	for _, c := range t.chains {
		tx.Add(&knftables.Chain{
			Name: c.name, Type: knftables.PtrTo(c.typ), Hook: knftables.PtrTo(c.hook), Priority: knftables.PtrTo(c.priority),
		})
		for _, r := range c.rules {
			tx.Add(&knftables.Rule{Chain: c.name, Rule: r, Comment: knftables.PtrTo(fingerprint(r))})
		}
	}
}

func elementText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}
