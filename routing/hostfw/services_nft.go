// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"fmt"
	"strconv"

	"sigs.k8s.io/knftables"
)

// serviceTableName is our table for Services, of family inet.
const serviceTableName = "waymark-services"

// The objects of that table.
const (
	setNodePorts  = "node-ports"
	chainServices = "services"
)

func decimal[N uint8 | uint16](n N) string { return strconv.Itoa(int(n)) }

// nft says which table the rules make. Sets and maps are there even if empty, so
// that the next port or alias is an element more and nothing else.
func (r serviceRules) nft() nftTable {
	if r.empty() {
		return nftTable{}
	}
	ports := nftObject{typ: "inet_proto . inet_service", elements: map[string]string{}}
	for _, p := range r.ports {
		ports.elements[key(decimal(p.Protocol), decimal(p.Port))] = ""
	}
	t := nftTable{what: "Services", objects: map[string]nftObject{setNodePorts: ports}}
	services := nftChain{name: chainServices}
	var nodePorts, forged, sources []string
	never := [...]string{"127.0.0.0/8", "{ ::1, fe80::/10 }"}
	for i, fam := range nftFamilies {
		f := r.families[i]
		aliases := nftObject{typ: fam.typ + " . inet_proto . inet_service : " + fam.typ, isMap: true, elements: map[string]string{}}
		for _, a := range f.aliases {
			aliases.elements[key(a.Addr.Addr().String(), decimal(a.Protocol), decimal(a.Addr.Port()))] = a.To.String()
		}
		t.objects["aliases"+fam.suffix] = aliases
		services.rules = append(services.rules,
			"dnat "+fam.ip+" to "+fam.ip+" daddr . meta l4proto . th dport map @aliases"+fam.suffix)
		if c := f.client; c.As.IsValid() {
			forged = append(forged, fmt.Sprintf("iifname != %q %s saddr %s drop", r.gateway, fam.ip, c.As))
			sources = append(sources,
				fmt.Sprintf("%s daddr %s fib saddr type local snat %s to %s", fam.ip, f.to, fam.ip, c.As),
				fmt.Sprintf("%s saddr %s snat %s to %s", fam.ip, c.As, fam.ip, c.Node))
		}
		if !f.to.IsValid() {
			continue
		}
		rule := "meta l4proto . th dport @" + setNodePorts + " " + fam.ip + " daddr != " + never[i]
		if len(f.within) > 0 {
			t.objects["node-port-addrs"+fam.suffix] = intervals(fam.typ, f.within)
			rule += " " + fam.ip + " daddr @node-port-addrs" + fam.suffix
		}
		nodePorts = append(nodePorts, rule+" fib daddr type local dnat "+fam.ip+" to "+f.to.String())
	}
	services.rules = append(services.rules, nodePorts...)
	jump := []string{"jump " + chainServices}
	// The priority "dstnat" has that name in prerouting only.
	t.chains = []nftChain{
		services,
		{"prerouting", knftables.NATType, knftables.PreroutingHook, knftables.DNATPriority, jump},
		{"output", knftables.NATType, knftables.OutputHook, "-100", jump},
	}
	if len(sources) > 0 {
		t.chains = append(t.chains,
			nftChain{"forged", knftables.FilterType, knftables.PreroutingHook, knftables.RawPriority, forged},
			nftChain{"postrouting", knftables.NATType, knftables.PostroutingHook, knftables.SNATPriority, sources})
	}
	return t
}
