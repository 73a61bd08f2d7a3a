// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"context"
	"errors"

	"k8s.io/klog/v2"
)

// ServiceFirewall keeps the rules of Services in the packet filter of the host,
// apart from those of [Firewall]. It is used by one goroutine at a time.
type ServiceFirewall struct{ keeper keeper }

// NewServices makes a ServiceFirewall. It chooses its backend as a Firewall
// with the same parameters does.
func NewServices(p Params) *ServiceFirewall { return &ServiceFirewall{newKeeper(p, serviceTableName)} }

// Apply makes the host's rules what r says, as [Firewall.Apply] does. Without
// anything wanted there is not even a table. It leaves out what r cannot mean,
// which is an error as well.
func (f *ServiceFirewall) Apply(ctx context.Context, r ServiceRules) (Result, error) {
	want, wrong := r.normal()
	before, _ := f.keeper.last.(serviceRules)
	res, err := f.keeper.apply(ctx, want)
	if res.Drift {
		before = serviceRules{} // nobody knows what there was
	}
	if res.Changed {
		forget(ctx, before, want)
		klog.FromContext(ctx).Info("Host firewall of Services changed", "backend", res.Backend, "drift", res.Drift,
			"nodePorts", len(want.ports), "aliases", len(want.families[0].aliases)+len(want.families[1].aliases))
	}
	return res, errors.Join(wrong, err)
}

// forget ends the connections of UDP that began under other rules. It is no
// reason for Apply to fail: they end by themselves when the client is silent.
func forget(ctx context.Context, before, now serviceRules) {
	n, err := forgetUDP(changedUDP(before, now), now)
	if err != nil {
		klog.FromContext(ctx).Error(err, "UDP connections to Services may go a former way")
	}
	if n > 0 {
		klog.FromContext(ctx).Info("UDP connections forgotten since the rules of Services changed", "count", n)
	}
}
