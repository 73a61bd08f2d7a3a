// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"k8s.io/klog/v2"
)

// ServiceFirewall keeps the rules of Services in the packet filter of the host,
// apart from those of [Firewall]. It is used by one goroutine at a time.
type ServiceFirewall struct {
	p      Params
	chosen Backend // empty until the first call has looked at the host
	nft    *nftServices
	ipts   iptFinder
	tidied bool
	last   *serviceRules
	// generation is that of nftables in which last was known to be in place, 0
	// if none.
	generation uint32
}

// NewServices makes a ServiceFirewall. It chooses its backend as a Firewall
// with the same parameters does.
func NewServices(p Params) *ServiceFirewall {
	if p.Backend == "" {
		p.Backend = Auto
	}
	return &ServiceFirewall{p: p}
}

// Apply makes the host's rules what r says, in both families, and writes the
// difference only; the first call also takes away what the other backend may
// have left. Without anything wanted there is not even a table. While nothing
// but this ServiceFirewall changes nftables, nothing is listed either. It leaves
// out what r cannot mean, goes on past errors and returns them joined.
func (f *ServiceFirewall) Apply(ctx context.Context, r ServiceRules) (Result, error) {
	if err := f.choose(); err != nil {
		return Result{}, err
	}
	want, wrong := r.normal()
	res := Result{Backend: f.chosen}
	same := f.last != nil && reflect.DeepEqual(*f.last, want)
	gen := currentGeneration(f.nft != nil)
	known := gen != 0 && gen == f.generation
	if same && known {
		return res, wrong
	}
	var errs []error
	note := func(changed bool, err error) {
		res.Changed = res.Changed || changed
		if err != nil {
			errs = append(errs, err)
		}
	}
	switch {
	case f.chosen == NFTables && known:
		note(f.nft.change(ctx, renderServices(*f.last), renderServices(want)))
	case f.chosen == NFTables:
		note(f.nft.apply(ctx, renderServices(want)))
	case f.nft != nil && !f.tidied:
		note(f.nft.remove(ctx))
	}
	note(f.applyIPT(ctx, want))
	err := errors.Join(errs...)
	res.Drift = res.Changed && same
	f.generation = 0
	before := serviceRules{}
	if f.last != nil && !same {
		before = *f.last
	}
	if err == nil {
		f.last, f.tidied = &want, true
		switch now := currentGeneration(f.nft != nil); {
		case !res.Changed:
			f.generation = gen
		case f.chosen == NFTables && known && now == gen+1:
			f.generation = now // nobody else wrote meanwhile
		}
	}
	if res.Changed {
		f.forget(ctx, before, want)
		klog.FromContext(ctx).Info("Host firewall of Services changed", "backend", f.chosen, "drift", res.Drift,
			"nodePorts", len(want.ports), "aliases", len(want.families[0].aliases)+len(want.families[1].aliases))
	}
	return res, errors.Join(wrong, err)
}

// forget ends the connections of UDP that began under other rules. It is no
// reason for Apply to fail: they end by themselves when the client is silent.
func (f *ServiceFirewall) forget(ctx context.Context, before, now serviceRules) {
	n, err := forgetUDP(changedUDP(before, now), now)
	if err != nil {
		klog.FromContext(ctx).Error(err, "UDP connections to Services may go a former way")
	}
	if n > 0 {
		klog.FromContext(ctx).Info("UDP connections forgotten since the rules of Services changed", "count", n)
	}
}

// applyIPT writes the rules into iptables where these were chosen, and else
// takes away, once, what an earlier choice left there.
func (f *ServiceFirewall) applyIPT(ctx context.Context, want serviceRules) (bool, error) {
	if f.chosen != IPTables && f.tidied {
		return false, nil
	}
	ipts, err := f.ipts.find()
	errs := []error{err}
	changed := false
	for n, i := range ipts {
		var tables []iptTable
		switch {
		case f.chosen == IPTables && (n == 0 || ipts[n-1].is4 != i.is4):
			tables = renderServicesIPT(want, i.is4)
		case f.tidied:
			continue
		default:
			tables = renderServicesIPT(serviceRules{}, i.is4)
		}
		wrote, err := i.apply(ctx, tables)
		changed, errs = changed || wrote, append(errs, err)
	}
	return changed, errors.Join(errs...)
}

// Remove takes all rules of Services out of the host's packet filter.
func (f *ServiceFirewall) Remove(ctx context.Context) error {
	if err := f.choose(); err != nil {
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
		_, err := i.apply(ctx, renderServicesIPT(serviceRules{}, i.is4))
		errs = append(errs, err)
	}
	f.last, f.tidied, f.generation = nil, false, 0
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing the rules of Services: %w", err)
	}
	return nil
}

// choose looks at the host, once.
func (f *ServiceFirewall) choose() error {
	if f.chosen != "" {
		return nil
	}
	chosen, client, err := chooseBackend(f.p.Backend, serviceTableName, &f.ipts)
	if err != nil {
		return err
	}
	f.chosen = chosen
	if client != nil {
		f.nft = &nftServices{client}
	}
	return nil
}
