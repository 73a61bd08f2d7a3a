// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/routing"
)

// defaultMetric6 is what the kernel makes of metric 0 in IPv6 (IP6_RT_PRIO_USER).
const defaultMetric6 = 1024

// routeKey is what makes two routes of a table the same route.
type routeKey struct {
	prefix netip.Prefix
	metric int
}

func keyOf(r routing.Route) routeKey { return routeKey{r.Prefix, r.Metric} }

// observed is a route that the kernel has.
type observed struct {
	routing.Route
	// protocol of the route (rtm_protocol).
	protocol int
	// odd says that it has attributes that this package never sets.
	odd bool
	// ref finds the kernel's own form again; it means nothing to the diff.
	ref int
}

// changes is the difference between the wanted routes and the kernel's.
type changes struct {
	add, replace []routing.Route
	remove       []observed
	kept         []routing.Route
	unchanged    int
	errs         []error
}

// diffRoutes compares. Of the observed routes only those of our protocol are
// ever removed; one of another protocol with the same prefix and metric is a
// conflict that costs us this one route. Unknown routes of ours stay when
// keepUnknown is set.
func diffRoutes(desired []routing.Route, actual []observed, keepUnknown bool) changes {
	own, foreign := make(map[routeKey][]observed), make(map[routeKey]observed)
	for _, o := range actual {
		if o.protocol == Protocol {
			own[keyOf(o.Route)] = append(own[keyOf(o.Route)], o)
		} else {
			foreign[keyOf(o.Route)] = o
		}
	}
	var c changes
	seen := make(map[routeKey]bool)
	for _, r := range desired {
		r, err := normalise(r)
		if err != nil {
			c.errs = append(c.errs, err)
			continue
		}
		k := keyOf(r)
		if seen[k] {
			c.errs = append(c.errs, fmt.Errorf("route %v metric %d: wanted twice", k.prefix, k.metric))
			continue
		}
		seen[k] = true
		have := own[k]
		match := slices.IndexFunc(have, func(o observed) bool { return !o.odd && sameRoute(r, o.Route) })
		switch f, conflict := foreign[k]; {
		case match >= 0:
			c.unchanged++
			c.remove = append(c.remove, slices.Delete(slices.Clone(have), match, match+1)...)
		case conflict:
			c.errs = append(c.errs, fmt.Errorf("route %v metric %d: %w (protocol %d)", k.prefix, k.metric, ErrForeign, f.protocol))
		case len(have) == 0:
			c.add = append(c.add, r)
		default:
			c.replace = append(c.replace, r)
			c.remove = append(c.remove, have[1:]...)
		}
	}
	for k, have := range own {
		switch {
		case seen[k]:
		case keepUnknown:
			for _, o := range have {
				c.kept = append(c.kept, o.Route)
			}
		default:
			c.remove = append(c.remove, have...)
		}
	}
	slices.SortFunc(c.add, compareRoutes)
	slices.SortFunc(c.replace, compareRoutes)
	slices.SortFunc(c.kept, compareRoutes)
	slices.SortFunc(c.remove, func(a, b observed) int {
		return cmp.Or(compareRoutes(a.Route, b.Route), cmp.Compare(a.ref, b.ref))
	})
	return c
}

// normalise brings a wanted route into the form in which the kernel shows it.
func normalise(r routing.Route) (routing.Route, error) {
	if !r.Prefix.IsValid() {
		return r, fmt.Errorf("route %v: invalid prefix", r.Prefix)
	}
	fail := func(format string, args ...any) (routing.Route, error) {
		return r, fmt.Errorf("route %v metric %d: %w", r.Prefix, r.Metric, fmt.Errorf(format, args...))
	}
	r.Prefix = r.Prefix.Masked()
	if r.Metric == 0 && r.Prefix.Addr().Is6() {
		r.Metric = defaultMetric6
	}
	if r.Type == routing.Unreachable {
		// The kernel keeps neither next hops nor path properties for these.
		return routing.Route{Prefix: r.Prefix, Type: r.Type, Metric: r.Metric}, nil
	}
	if len(r.NextHops) == 0 {
		return fail("no next hop")
	}
	hops := make([]routing.NextHop, 0, len(r.NextHops))
	for _, h := range r.NextHops {
		h.Addr = h.Addr.Unmap().WithZone("")
		switch {
		case !h.Addr.IsValid() && h.Interface == "":
			return fail("next hop with neither address nor interface")
		case !h.Addr.IsValid() && len(r.NextHops) > 1:
			return fail("next hop without address among several")
		case h.Addr.IsLinkLocalUnicast() && h.Addr.Is6() && h.Interface == "":
			return fail("next hop %v: a link-local address needs an interface", h.Addr)
		case h.Addr.Is4() && r.Prefix.Addr().Is6():
			return fail("next hop %v: IPv6 cannot go through an IPv4 address", h.Addr)
		case h.OnLink && h.Interface == "":
			return fail("next hop %v: on-link needs an interface", h.Addr)
		}
		hops = append(hops, h)
	}
	slices.SortFunc(hops, compareHops)
	r.NextHops = slices.Compact(hops)
	r.Source = r.Source.Unmap()
	return r, nil
}

// sameRoute compares a normalised wanted route with one of the same key. A
// next hop that was wanted without an interface matches any.
func sameRoute(want, have routing.Route) bool {
	if want.Type != have.Type || want.Source != have.Source || want.MTU != have.MTU ||
		len(want.NextHops) != len(have.NextHops) {
		return false
	}
	left := slices.Clone(have.NextHops)
	// Hops with an interface choose first, so that one without takes the rest.
	hops := slices.Clone(want.NextHops)
	slices.SortStableFunc(hops, func(a, b routing.NextHop) int {
		return cmp.Compare(b2i(a.Interface == ""), b2i(b.Interface == ""))
	})
	for _, w := range hops {
		i := slices.IndexFunc(left, func(h routing.NextHop) bool {
			return w.Addr == h.Addr && w.OnLink == h.OnLink && (w.Interface == "" || w.Interface == h.Interface)
		})
		if i < 0 {
			return false
		}
		left = slices.Delete(left, i, i+1)
	}
	return true
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func compareHops(a, b routing.NextHop) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Interface, b.Interface), cmp.Compare(b2i(a.OnLink), b2i(b.OnLink)))
}

func compareRoutes(a, b routing.Route) int {
	return cmp.Or(
		a.Prefix.Addr().Compare(b.Prefix.Addr()),
		cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()),
		cmp.Compare(a.Metric, b.Metric))
}

// ErrForeign says that a route of another protocol has the prefix and metric
// that we want. It is left alone.
var ErrForeign = errors.New("taken by a route that is not ours")
