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

// Backend is the packet filter in use.
type Backend string

// The backends.
const (
	// Auto is NFTables where the kernel and the nft program can do it, else IPTables.
	Auto     Backend = "auto"
	NFTables Backend = "nftables"
	IPTables Backend = "iptables"
)

// Params are what New needs.
type Params struct {
	// Backend is Auto if empty.
	Backend Backend
}

// Firewall keeps our rules in the packet filter of the host. It is used by one
// goroutine at a time.
type Firewall struct {
	p Params
	// chosen is empty until the first call has looked at the host.
	chosen Backend
	nft    *nft // nil where nft cannot be used
	ipts   iptFinder
	// tidied says that what another backend left has been taken away.
	tidied bool
	last   *Ruleset
	// generation is that of nftables in which last was seen to be in place, 0 if none.
	generation uint32
}

// New makes a Firewall.
func New(p Params) *Firewall {
	if p.Backend == "" {
		p.Backend = Auto
	}
	return &Firewall{p: p}
}

// Result is what Apply achieved.
type Result struct {
	// Backend is the one that was chosen.
	Backend Backend
	// Changed says that something was written.
	Changed bool
	// Drift says that it was written although the same ruleset had been
	// applied before: something else had changed our rules.
	Drift bool
}

// Apply makes the host's rules what the ruleset says, in both families; the
// first call also takes away what the other backend may have left. It writes
// nothing when all is in place, and if nothing at all has changed in nftables
// since it saw that, it does not even list. It goes on past errors and returns
// them joined.
func (f *Firewall) Apply(ctx context.Context, r Ruleset) (Result, error) {
	if err := f.choose(ctx); err != nil {
		return Result{}, err
	}
	res := Result{Backend: f.chosen}
	same := f.last != nil && reflect.DeepEqual(*f.last, r)
	gen := currentGeneration(f.nft != nil)
	if same && gen != 0 && gen == f.generation {
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
	case f.chosen == NFTables:
		note(f.nft.apply(ctx, r))
	case f.nft != nil && !f.tidied:
		note(f.nft.remove(ctx))
	}
	ipts, err := f.ipts.find()
	note(false, err)
	for n, i := range ipts {
		// Of two kinds of a family beside each other the first, the default, has our rules.
		if f.chosen == IPTables && (n == 0 || ipts[n-1].is4 != i.is4) {
			note(i.apply(ctx, renderIPT(r, i.is4, i.client.HasRandomFully())))
			continue
		}
		drops, err := i.drops()
		note(false, err)
		note(i.apply(ctx, acceptOnly(r.Gateway, drops, !f.tidied)))
	}
	err = errors.Join(errs...)
	res.Drift = res.Changed && same
	f.generation = 0
	if err == nil {
		f.last, f.tidied = &r, true
		// After a change the next call looks again: what others did meanwhile counts too.
		if !res.Changed {
			f.generation = gen
		}
	}
	if res.Changed {
		klog.FromContext(ctx).Info("Host firewall changed", "backend", f.chosen, "drift", res.Drift)
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

// Remove takes all our rules out of the host's packet filter.
func (f *Firewall) Remove(ctx context.Context) error {
	if err := f.choose(ctx); err != nil {
		return err
	}
	var errs []error
	if f.nft != nil {
		_, err := f.nft.remove(ctx)
		errs = append(errs, err)
	}
	ipts, err := f.ipts.find()
	errs = append(errs, err)
	for _, i := range ipts {
		_, err := i.remove(ctx)
		errs = append(errs, err)
	}
	f.last, f.tidied, f.generation = nil, false, 0
	return errors.Join(errs...)
}

// acceptOnly is what is wanted of an iptables that does not have our rules:
// acceptance where it drops, and, when tidying up, nothing in the other tables.
func acceptOnly(gateway string, drops, tidy bool) []iptTable {
	var out []iptTable
	for _, p := range places {
		switch {
		case p.table == "filter" && drops:
			p.chains = []iptChain{{chainForward, acceptRules(gateway)}}
			out = append(out, p)
		case p.table == "filter" || tidy:
			out = append(out, p)
		}
	}
	return out
}

// choose looks at the host, once.
func (f *Firewall) choose(ctx context.Context) error {
	if f.chosen != "" {
		return nil
	}
	chosen, client, err := chooseBackend(f.p.Backend, tableName, &f.ipts)
	if err != nil {
		return err
	}
	f.chosen = chosen
	if client != nil {
		f.nft = &nft{client}
	}
	klog.FromContext(ctx).Info("Host firewall chosen", "backend", f.chosen, "configured", f.p.Backend)
	return nil
}

// chooseBackend finds what the host has. The client is for a table of family
// inet, and nil where nftables cannot be used.
func chooseBackend(configured Backend, table string, finder *iptFinder) (Backend, knftables.Interface, error) {
	client, nftErr := knftables.New(knftables.InetFamily, table)
	if nftErr != nil {
		client = nil
	}
	ipts, iptErr := finder.find()
	if iptErr == nil && len(ipts) == 0 {
		iptErr = errors.New("no iptables program found")
	}
	switch {
	case configured != IPTables && nftErr == nil:
		return NFTables, client, nil
	case configured != NFTables && iptErr == nil:
		return IPTables, client, nil
	}
	return "", nil, fmt.Errorf("host firewall %s cannot be used: %w", configured, errors.Join(nftErr, iptErr))
}
