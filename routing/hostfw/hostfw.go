// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"context"

	"k8s.io/klog/v2"
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

// Params are what New and NewServices need.
type Params struct {
	// Backend is Auto if empty.
	Backend Backend
}

// Result is what Apply achieved.
type Result struct {
	// Backend is the one that was chosen.
	Backend Backend
	// Changed says that something was written.
	Changed bool
	// Drift says that it was written although the same rules had been applied
	// before: something else had changed ours.
	Drift bool
}

// Firewall keeps our rules in the packet filter of the host. It is used by one
// goroutine at a time.
type Firewall struct{ keeper keeper }

// New makes a Firewall.
func New(p Params) *Firewall { return &Firewall{newKeeper(p, tableName)} }

// Apply makes the host's rules what the ruleset says, in both families; the
// first call also takes away what the other backend may have left. It writes
// nothing when all is in place, and while nothing but this Firewall changes
// nftables, it does not even list. It goes on past errors and returns them joined.
func (f *Firewall) Apply(ctx context.Context, r Ruleset) (Result, error) {
	res, err := f.keeper.apply(ctx, r)
	if res.Changed {
		klog.FromContext(ctx).Info("Host firewall changed", "backend", res.Backend, "drift", res.Drift)
	}
	return res, err
}
