// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
)

// SNAT says which packets of Pods get the node's address.
type SNAT string

// The SNAT modes.
const (
	// SNATAuto masquerades what local Pods send to other addresses than those
	// of Pods, of nodes, and of NonMasqueradeCIDRs.
	SNATAuto SNAT = "Auto"
	// SNATAlways is SNATAuto without NonMasqueradeCIDRs.
	SNATAlways SNAT = "Always"
	// SNATNever leaves sources alone.
	SNATNever SNAT = "Never"
)

// Ruleset is all that Waymark wants of the host's packet filter. The order
// within slices does not matter, and entries may overlap.
type Ruleset struct {
	// Gateway is the interface of the node's Pods.
	Gateway string
	SNAT    SNAT
	// LocalPodCIDRs are the Pod networks of this node.
	LocalPodCIDRs []netip.Prefix
	// ClusterPodCIDRs are the Pod networks of all nodes.
	ClusterPodCIDRs []netip.Prefix
	// NodeAddresses are the addresses of all nodes.
	NodeAddresses []netip.Addr
	// NonMasqueradeCIDRs are destinations that see Pod addresses.
	NonMasqueradeCIDRs []netip.Prefix
	// SwitchedNICs are the NICs in the hands of the userspace switch. The
	// kernel still hears what they receive, and must not act on it twice.
	SwitchedNICs []string
}

// familyRules is what a ruleset means for an IP family, aggregated and sorted.
type familyRules struct {
	local, noMasquerade []netip.Prefix
}

// masquerades says that there is anything to masquerade.
func (f familyRules) masquerades() bool { return len(f.local) > 0 }

func (r Ruleset) family(is4 bool) familyRules {
	var f familyRules
	if r.SNAT == SNATNever {
		return f
	}
	f.local = aggregate(r.LocalPodCIDRs, is4)
	spared := slices.Concat(r.ClusterPodCIDRs, r.LocalPodCIDRs, singles(r.NodeAddresses))
	if r.SNAT == SNATAuto {
		spared = append(spared, r.NonMasqueradeCIDRs...)
	}
	f.noMasquerade = aggregate(spared, is4)
	return f
}

func (r Ruleset) switchedNICs() []string {
	nics := slices.Clone(r.SwitchedNICs)
	slices.Sort(nics)
	return slices.Compact(nics)
}

func singles(addrs []netip.Addr) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(addrs))
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if a.IsValid() {
			out = append(out, single(a))
		}
	}
	return out
}

// single is the prefix that holds one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// aggregate returns the fewest prefixes of a family that cover the same
// addresses, sorted. Sets of intervals refuse elements that overlap.
func aggregate(prefixes []netip.Prefix, is4 bool) []netip.Prefix {
	var in []netip.Prefix
	for _, p := range prefixes {
		if p.IsValid() && p.Addr().Is4() == is4 {
			in = append(in, p.Masked())
		}
	}
	slices.SortFunc(in, comparePrefixes)
	var out []netip.Prefix
	for _, p := range in {
		if n := len(out); n > 0 && out[n-1].Overlaps(p) {
			continue // a wider one came before
		}
		out = append(out, p)
		// Two halves make a whole, which may be a half in turn.
		for n := len(out); n > 1; n = len(out) {
			parent, err := out[n-2].Addr().Prefix(out[n-2].Bits() - 1)
			if err != nil || out[n-2].Bits() != out[n-1].Bits() || !parent.Contains(out[n-1].Addr()) {
				break
			}
			out = append(out[:n-2], parent)
		}
	}
	return out
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// fingerprint is the comment by which a rule is known to be what we wrote.
func fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "waymark:" + hex.EncodeToString(sum[:4])
}
