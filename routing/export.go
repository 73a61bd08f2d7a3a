// SPDX-License-Identifier: Apache-2.0

package routing

import "net/netip"

// Attributes are what an announcement carries besides prefix and next hop.
type Attributes struct {
	Communities []Community
	// LocalPref is sent to iBGP peers, 0: 100.
	LocalPref uint32
	// MED is the MULTI_EXIT_DISC attribute, nil: none is sent.
	MED *uint32
	// Prepend is how often the node's ASN is in the AS path besides the once
	// that it always is, towards eBGP peers.
	Prepend int
	// GracefulShutdown asks routers for their other routes, if they have any
	// (RFC 8326): GRACEFUL_SHUTDOWN is among the communities, and iBGP peers are
	// sent the local preference 0, whatever else is said of it.
	GracefulShutdown bool
}

// ExportRule is what one peer gets of the advertisements that are for it.
type ExportRule struct {
	// Prefixes are those that are announced, none: all.
	Prefixes []PrefixRule
	// Communities are added to those of the advertisement.
	Communities []Community
	// LocalPref, MED and Prepend replace what the advertisement says; 0 or nil:
	// it decides.
	LocalPref uint32
	MED       *uint32
	Prepend   *int
}

// Announces says whether the peer is told of a prefix.
func (r ExportRule) Announces(p netip.Prefix) bool {
	return len(r.Prefixes) == 0 || matches(r.Prefixes, p)
}

// Apply returns what the peer is told where an advertisement says a.
func (r ExportRule) Apply(a Attributes) Attributes {
	a.Communities = UnionCommunities(a.Communities, r.Communities)
	if r.LocalPref != 0 {
		a.LocalPref = r.LocalPref
	}
	if r.MED != nil {
		a.MED = r.MED
	}
	if r.Prepend != nil {
		a.Prepend = *r.Prepend
	}
	if a.GracefulShutdown {
		a.Communities, a.LocalPref = UnionCommunities(a.Communities, []Community{gracefulShutdown}), 0
	}
	return a
}
