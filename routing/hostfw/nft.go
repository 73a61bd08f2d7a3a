// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"sigs.k8s.io/knftables"
)

// nft writes the table through the nft program.
type nft struct{ client knftables.Interface }

// apply makes the table what the ruleset says and returns whether it wrote.
func (n nft) apply(ctx context.Context, r Ruleset) (bool, error) {
	want := renderNFT(r)
	same, err := n.holds(ctx, want)
	if err != nil || same {
		return false, err
	}
	tx := n.client.NewTransaction()
	want.write(tx)
	if err := n.client.Run(ctx, tx); err != nil {
		return false, fmt.Errorf("writing nftables table inet %s: %w", tableName, err)
	}
	return true, nil
}

// remove deletes the table and returns whether there was one.
func (n nft) remove(ctx context.Context) (bool, error) {
	chains, err := n.client.List(ctx, "chains")
	if knftables.IsNotFound(err) || err == nil && len(chains) == 0 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("listing nftables table inet %s: %w", tableName, err)
	}
	tx := n.client.NewTransaction()
	tx.Delete(&knftables.Table{})
	if err := n.client.Run(ctx, tx); err != nil {
		return false, fmt.Errorf("removing nftables table inet %s: %w", tableName, err)
	}
	return true, nil
}

// holds says whether the kernel's table is the wanted one.
func (n nft) holds(ctx context.Context, want nftTable) (bool, error) {
	fail := func(err error) (bool, error) {
		if knftables.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("listing nftables table inet %s: %w", tableName, err)
	}
	objects, err := n.client.ListAll(ctx)
	if err != nil {
		return fail(err)
	}
	var chainNames, setNames []string
	for _, c := range want.chains {
		chainNames = append(chainNames, c.name)
	}
	for _, s := range want.sets {
		setNames = append(setNames, s.name)
	}
	if !sameNames(objects["chain"], chainNames) || !sameNames(objects["set"], setNames) {
		return false, nil
	}
	rules, err := n.client.ListRules(ctx, "")
	if err != nil {
		return fail(err)
	}
	byChain := make(map[string][]string)
	for _, r := range rules {
		comment := ""
		if r.Comment != nil {
			comment = *r.Comment
		}
		byChain[r.Chain] = append(byChain[r.Chain], comment)
	}
	for _, c := range want.chains {
		if !slices.EqualFunc(byChain[c.name], c.rules, func(comment, text string) bool { return comment == fingerprint(text) }) {
			return false, nil
		}
	}
	for _, s := range want.sets {
		elements, err := n.client.ListElements(ctx, "set", s.name)
		if err != nil {
			return fail(err)
		}
		have := make([]netip.Prefix, 0, len(elements))
		for _, e := range elements {
			p, ok := parseElement(e.Key)
			if !ok {
				return false, nil // not one that we wrote
			}
			have = append(have, p)
		}
		slices.SortFunc(have, comparePrefixes)
		if !slices.Equal(have, s.elements) {
			return false, nil
		}
	}
	return true, nil
}

func sameNames(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// parseElement reads an element as nft lists it: an address or a prefix.
func parseElement(key []string) (netip.Prefix, bool) {
	if len(key) != 1 {
		return netip.Prefix{}, false
	}
	if a, err := netip.ParseAddr(key[0]); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(key[0])
	return p, err == nil
}
