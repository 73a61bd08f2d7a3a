// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"strings"

	"sigs.k8s.io/knftables"
)

// tableName is our table, of family inet.
const tableName = "waymark"

// nft says which table a ruleset makes.
func (r Ruleset) nft() nftTable {
	t := nftTable{what: "rules", objects: map[string]nftObject{}}
	gw := `"` + r.Gateway + `"`
	if nics := r.switchedNICs(); len(nics) > 0 {
		t.chains = append(t.chains, nftChain{
			"prerouting", knftables.FilterType, knftables.PreroutingHook, knftables.RawPriority,
			[]string{`iifname { "` + strings.Join(nics, `", "`) + `" } drop`},
		})
	}
	post := nftChain{"postrouting", knftables.NATType, knftables.PostroutingHook, knftables.SNATPriority, []string{"oifname " + gw + " return"}}
	for i, fam := range nftFamilies {
		if f := r.family(i == 0); f.masquerades() {
			t.objects["local-pods"+fam.suffix] = intervals(fam.typ, f.local)
			t.objects["no-masquerade"+fam.suffix] = intervals(fam.typ, f.noMasquerade)
			post.rules = append(post.rules, fam.ip+" saddr @local-pods"+fam.suffix+" "+
				fam.ip+" daddr != @no-masquerade"+fam.suffix+" masquerade fully-random")
		}
	}
	t.chains = append(t.chains, post)
	return t
}
