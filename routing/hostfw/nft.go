// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"sigs.k8s.io/knftables"
)

// nft writes a table through the nft program.
type nft struct {
	client knftables.Interface
	table  string
}

// apply compares the wanted table with the kernel's and writes what differs; it
// returns whether it wrote.
func (n nft) apply(ctx context.Context, want nftTable) (bool, error) {
	if len(want.chains) == 0 {
		return n.remove(ctx)
	}
	have, err := n.read(ctx, want)
	if err != nil {
		return false, err
	}
	return n.change(ctx, have, want)
}

// change leads from one table to another: by elements if nothing else differs.
func (n nft) change(ctx context.Context, have, want nftTable) (bool, error) {
	tx := n.client.NewTransaction()
	switch {
	case len(want.chains) == 0 && len(have.chains) == 0:
		return false, nil
	case len(want.chains) == 0:
		tx.Delete(&knftables.Table{})
	case !have.sameForm(want):
		want.write(tx)
	default:
		for name, o := range want.objects {
			o.change(tx, name, have.objects[name].elements)
		}
	}
	if tx.NumOperations() == 0 {
		return false, nil
	}
	if err := n.client.Run(ctx, tx); err != nil {
		return false, fmt.Errorf("writing nftables table inet %s: %w", n.table, err)
	}
	return true, nil
}

// remove deletes the table and returns whether there was one.
func (n nft) remove(ctx context.Context) (bool, error) {
	objects, err := n.client.ListAll(ctx)
	if knftables.IsNotFound(err) || err == nil && len(objects) == 0 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("listing nftables table inet %s: %w", n.table, err)
	}
	return n.change(ctx, nftTable{chains: []nftChain{{}}}, nftTable{})
}

// read returns the kernel's table: the whole of it if its form is the wanted
// one, else one of another form.
func (n nft) read(ctx context.Context, want nftTable) (nftTable, error) {
	fail := func(err error) (nftTable, error) {
		if knftables.IsNotFound(err) {
			return nftTable{}, nil
		}
		return nftTable{}, fmt.Errorf("listing nftables table inet %s: %w", n.table, err)
	}
	objects, err := n.client.ListAll(ctx)
	if err != nil {
		return fail(err)
	}
	var chains, sets, mapNames []string
	for _, c := range want.chains {
		chains = append(chains, c.name)
	}
	for name, o := range want.objects {
		if o.isMap {
			mapNames = append(mapNames, name)
		} else {
			sets = append(sets, name)
		}
	}
	if !sameNames(objects["chain"], chains) || !sameNames(objects["set"], sets) || !sameNames(objects["map"], mapNames) {
		return nftTable{}, nil
	}
	rules, err := n.client.ListRules(ctx, "")
	if err != nil {
		return fail(err)
	}
	if !sameRules(rules, want.chains) {
		return nftTable{}, nil
	}
	have := nftTable{chains: want.chains, objects: map[string]nftObject{}}
	for name, o := range want.objects {
		kind := "set"
		if o.isMap {
			kind = "map"
		}
		elements, err := n.client.ListElements(ctx, kind, name)
		if err != nil {
			return fail(err)
		}
		o.elements = make(map[string]string, len(elements))
		for _, e := range elements {
			o.elements[canonical(e.Key)] = canonical(e.Value)
		}
		have.objects[name] = o
	}
	return have, nil
}

// sameRules compares the rules of chains by their fingerprints.
func sameRules(have []*knftables.Rule, want []nftChain) bool {
	byChain := make(map[string][]string)
	for _, r := range have {
		comment := ""
		if r.Comment != nil {
			comment = *r.Comment
		}
		byChain[r.Chain] = append(byChain[r.Chain], comment)
	}
	for _, c := range want {
		if !slices.EqualFunc(byChain[c.name], c.rules, func(comment, text string) bool { return comment == fingerprint(text) }) {
			return false
		}
	}
	return true
}

// canonical is the text that we write for what nft lists.
func canonical(parts []string) string {
	out := make([]string, 0, len(parts))
	for _, p := range parts {
		switch p { // nft knows names where the system has /etc/protocols
		case "tcp":
			p = "6"
		case "udp":
			p = "17"
		case "sctp":
			p = "132"
		}
		if a, err := netip.ParseAddr(p); err == nil {
			p = a.String()
		} else if prefix, err := netip.ParsePrefix(p); err == nil {
			p = elementText(prefix)
		}
		out = append(out, p)
	}
	return key(out...)
}

func sameNames(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
