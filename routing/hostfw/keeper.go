// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"k8s.io/klog/v2"
	"sigs.k8s.io/knftables"
)

// rules are what is wanted of the packet filter, as data that reflect.DeepEqual
// compares. Each kind of them has a table of nftables and chains of iptables of
// its own.
type rules interface {
	// nft is the table, where nftables is in use.
	nft() nftTable
	// ipt is what is wanted of an iptables that has the rules.
	ipt(i ipt) []iptTable
	// beside is what is wanted of any other iptables: also nothing of what may
	// have been left there, if it is to be tidied up. It holds with an error, too.
	beside(i ipt, tidy bool) ([]iptTable, error)
}

// keeper keeps rules of one kind in the packet filter of the host. It is used by
// one goroutine at a time.
type keeper struct {
	configured Backend
	// table is the name of the table of nftables, of family inet.
	table string
	// chosen is empty until the first call has looked at the host.
	chosen Backend
	nft    *nft // nil where nft cannot be used
	ipts   iptFinder
	// tidied says that what another backend left has been taken away.
	tidied bool
	last   rules // nil before the first that were written
	// generation is that of nftables in which last was known to be in place, 0 if none.
	generation uint32
}

func newKeeper(p Params, table string) keeper {
	if p.Backend == "" {
		p.Backend = Auto
	}
	return keeper{configured: p.Backend, table: table}
}

// apply makes the host's rules the wanted ones, in both families, and writes the
// difference only; the first call also takes away what the other backend may have
// left. While nothing but this keeper changes nftables, nothing is listed either.
// It goes on past errors and returns them joined.
func (k *keeper) apply(ctx context.Context, want rules) (Result, error) {
	if err := k.choose(ctx); err != nil {
		return Result{}, err
	}
	res := Result{Backend: k.chosen}
	same := k.last != nil && reflect.DeepEqual(k.last, want)
	gen := currentGeneration(k.nft != nil)
	known := gen != 0 && gen == k.generation
	if same && known {
		return res, nil
	}
	var errs []error
	note := func(changed bool, err error) {
		res.Changed = res.Changed || changed
		if err != nil {
			errs = append(errs, err)
		}
	}
	switch {
	case k.chosen == NFTables && known:
		note(k.nft.change(ctx, k.last.nft(), want.nft()))
	case k.chosen == NFTables:
		note(k.nft.apply(ctx, want.nft()))
	case k.nft != nil && !k.tidied:
		note(k.nft.remove(ctx))
	}
	ipts, err := k.ipts.find()
	note(false, err)
	for n, i := range ipts {
		// Of two kinds of a family beside each other the first, the default, has our rules.
		if k.chosen == IPTables && (n == 0 || ipts[n-1].is4 != i.is4) {
			note(i.apply(ctx, want.ipt(i)))
			continue
		}
		tables, err := want.beside(i, !k.tidied)
		note(false, err)
		note(i.apply(ctx, tables))
	}
	err = errors.Join(errs...)
	res.Drift = res.Changed && same
	k.generation = 0
	if err == nil {
		k.last, k.tidied = want, true
		switch now := currentGeneration(k.nft != nil); {
		case !res.Changed:
			k.generation = gen
		case k.chosen == NFTables && known && now == gen+1:
			k.generation = now // nobody else wrote meanwhile
		}
	}
	return res, err
}

// currentGeneration is 0 where it does not tell of every change: without
// nftables, or with tables of legacy iptables beside it.
func currentGeneration(nftables bool) uint32 {
	if !nftables || legacyTables() {
		return 0
	}
	gen, err := generation()
	if err != nil {
		return 0
	}
	return gen
}

// choose looks at the host, once.
func (k *keeper) choose(ctx context.Context) error {
	if k.chosen != "" {
		return nil
	}
	client, nftErr := knftables.New(knftables.InetFamily, k.table)
	ipts, iptErr := k.ipts.find()
	if iptErr == nil && len(ipts) == 0 {
		iptErr = errors.New("no iptables program found")
	}
	switch {
	case k.configured != IPTables && nftErr == nil:
		k.chosen = NFTables
	case k.configured != NFTables && iptErr == nil:
		k.chosen = IPTables
	default:
		return fmt.Errorf("host firewall %s cannot be used: %w", k.configured, errors.Join(nftErr, iptErr))
	}
	if nftErr == nil {
		k.nft = &nft{client, k.table}
	}
	klog.FromContext(ctx).Info("Host firewall chosen", "table", k.table, "backend", k.chosen, "configured", k.configured)
	return nil
}
