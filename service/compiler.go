// SPDX-License-Identifier: Apache-2.0

package service

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

// Desired is what the switch should hold for one Service; nothing when it is
// gone.
type Desired struct {
	Key    Key
	Owner  string
	Flows  []flow.Flow
	Groups []flow.Group
	// Gone says that the Service is no longer there.
	Gone bool
	// Problems says what of the Service is not served, and why.
	Problems []string
	// Forget are the connections that must not go on as they are once the
	// switch has the flows.
	Forget []Connection
}

// Compiler computes flows and groups. New makes one.
type Compiler struct {
	node     Node
	services map[Key]*compiled
	// gone are connections to forget of Services that were deleted since the last
	// Flush.
	gone    map[Key][]Connection
	places  claims
	groups  numbers[groupName]
	aliases *aliases
	dirty   map[Key]bool
	// host is what was last put together; rehost says that it has changed since.
	host   Host
	rehost bool
}

type compiled struct {
	service Service
	layout
	// forget collects connections until the next Flush.
	forget []Connection
	// host is what it asked of the node at the last Flush.
	host Host
}

// New returns a Compiler without Services, for a node without a name.
func New() *Compiler {
	c := &Compiler{services: map[Key]*compiled{}, gone: map[Key][]Connection{}, dirty: map[Key]bool{}, aliases: newAliases()}
	c.groups = numbers[groupName]{
		hash: groupName.number, compare: groupName.compare,
		changed: func(n groupName) { c.dirty[n.Key] = true },
	}
	return c
}

// SetNode says how the node is now.
func (c *Compiler) SetNode(n Node) {
	if c.node.equal(n) {
		return
	}
	c.node = n
	for _, k := range slices.SortedFunc(maps.Keys(c.services), Key.compare) {
		c.put(c.services[k].service)
	}
}

// Set says how a Service is now. The Service must not be changed afterwards.
func (c *Compiler) Set(s Service) {
	if old, known := c.services[s.Key]; known && old.service.Equal(s) {
		return
	}
	c.put(s)
}

// put lays a Service out anew, and has it rendered.
func (c *Compiler) put(s Service) {
	old := c.services[s.Key]
	if old == nil {
		old = &compiled{forget: c.gone[s.Key]}
		delete(c.gone, s.Key)
	}
	next := &compiled{service: s, forget: old.forget, host: old.host}
	c.services[s.Key] = next
	for _, a := range s.outside() {
		c.aliases.add(a.addr, s.Key)
	}
	next.layout = layOut(&s, c.node, c.aliases.of)
	c.replace(s.Key, old, next)
	next.forget = append(next.forget, stale(old, next)...)
	for _, a := range old.service.outside() {
		if !slices.ContainsFunc(s.outside(), func(o outsideAddr) bool { return o.addr == a.addr }) {
			c.aliases.remove(a.addr, s.Key)
		}
	}
}

// Delete says that a Service is no longer there.
func (c *Compiler) Delete(k Key) {
	old, known := c.services[k]
	if !known {
		return
	}
	delete(c.services, k)
	c.gone[k] = append(old.forget, endless(old, &compiled{})...)
	c.replace(k, old, &compiled{})
	for _, a := range old.service.outside() {
		c.aliases.remove(a.addr, k)
	}
}

// replace gives places and numbers back that a Service does not need any more,
// and takes those that it needs now.
func (c *Compiler) replace(k Key, old, next *compiled) {
	c.dirty[k] = true
	has := func(l layout) map[place]rank {
		all := make(map[place]rank, len(l.frontends))
		for _, f := range l.frontends {
			all[f.place] = f.rank
		}
		return all
	}
	before, after := has(old.layout), has(next.layout)
	for _, f := range next.frontends {
		if r, had := before[f.place]; !had || r != f.rank {
			if loser, lost := c.places.add(f.place, claim{f.rank, k}); lost {
				c.dirty[loser] = true
			}
		}
	}
	for _, f := range old.frontends {
		if r, has := after[f.place]; !has || r != f.rank {
			if winner, won := c.places.remove(f.place, claim{f.rank, k}); won {
				c.dirty[winner] = true
			}
		}
	}
	needed := map[groupName]bool{}
	for _, s := range next.sets {
		for i := range s.groups {
			name := s.groupName(k, i)
			needed[name] = true
			c.groups.add(name)
		}
	}
	for _, s := range old.sets {
		for i := range s.groups {
			if name := s.groupName(k, i); !needed[name] {
				c.groups.remove(name)
			}
		}
	}
}

// Flush iterates over the Services whose flows or groups may be others than at
// the last Flush: first those that are gone, so that what they held is free, then
// the rest, each in order of their keys. Each is made when the one before has
// been taken: all at once are many times as large as what they are made from.
// What a loop that ends early has not seen comes with the next Flush. The body
// must not call the Compiler.
func (c *Compiler) Flush() iter.Seq[Desired] {
	return func(yield func(Desired) bool) {
		for _, k := range c.aliases.settle() {
			c.put(c.services[k].service)
		}
		dirty := slices.SortedFunc(maps.Keys(c.dirty), Key.compare)
		for _, gone := range []bool{true, false} {
			for _, k := range dirty {
				s := c.services[k]
				if (s == nil) != gone {
					continue
				}
				delete(c.dirty, k)
				if !yield(c.desired(k, s)) {
					return
				}
			}
		}
	}
}

// desired is what is wanted for a Service, which is nil when it is gone.
func (c *Compiler) desired(k Key, s *compiled) Desired {
	d := Desired{Key: k, Owner: pipeline.OwnerService(k.Namespace, k.Name), Gone: s == nil}
	if d.Gone {
		d.Forget = c.toForget(k, c.gone[k])
		delete(c.gone, k)
		c.rehost = true
		return d
	}
	d.Forget = c.toForget(k, s.forget)
	s.forget = nil
	c.render(s, &d)
	if host := c.hostOf(s); !reflect.DeepEqual(host, s.host) {
		s.host, c.rehost = host, true
	}
	return d
}

// render makes the flows and groups of a Service.
func (c *Compiler) render(s *compiled, d *Desired) {
	k := s.service.Key
	for i := range s.sets {
		set := &s.sets[i]
		for j := range set.groups {
			set.groups[j], _ = c.groups.of(set.groupName(k, j))
			d.Groups = append(d.Groups, flow.Group{ID: set.groups[j], Type: flow.GroupSelect, Buckets: set.buckets(j, s.service.Affinity)})
		}
		d.Flows = append(d.Flows, set.flows(s.service.Affinity)...)
	}
	for _, f := range s.frontends {
		if owner := c.places.owner(f.place); owner != k {
			d.Problems = append(d.Problems, fmt.Sprintf("%s is served for Service %s", f.place, owner))
			continue
		}
		d.Flows = append(d.Flows, s.frontendFlows(f)...)
	}
	d.Flows = append(d.Flows, c.fragments(s)...)
}

// frontendFlows has clients find their endpoints.
func (s *compiled) frontendFlows(f frontend) []flow.Flow {
	if f.port == 0 {
		return []flow.Flow{pipeline.ClusterIP(f.addr)}
	}
	front := pipeline.Frontend{Addr: f.addr, Protocol: uint8(f.protocol), Port: f.port}
	var flows []flow.Flow
	ranges := []netip.Prefix{{}}
	if f.limited {
		ranges = s.service.rangesOf(f.addr.Is4())
		flows = append(flows, front.OutOfRange())
	}
	for _, front.Range = range ranges {
		front.Outside = false
		flows = append(flows, front.Flow(s.actions(f.to)))
		if f.outside != f.to {
			front.Outside = true
			flows = append(flows, front.Flow(s.actions(f.outside)))
		}
	}
	return flows
}

// fragments are the flows for fragments that show no port, where they can only be
// meant for one frontend: a ClusterIP is one Service's, other addresses may be
// shared.
func (c *Compiler) fragments(s *compiled) []flow.Flow {
	var flows []flow.Flow
	for _, f := range s.frontends {
		if f.protocol != UDP || f.rank != clusterIP || c.places.owner(place{addr: f.addr}) != s.service.Key ||
			slices.ContainsFunc(s.frontends, func(o frontend) bool { return o.addr == f.addr && o.protocol == UDP && o.port != f.port }) {
			continue
		}
		front := pipeline.Frontend{Addr: f.addr, Protocol: uint8(f.protocol)}
		flows = append(flows, front.Fragments(s.actions(f.to)))
	}
	return flows
}

// rangesOf returns the ranges of a family, none within another.
func (s *Service) rangesOf(is4 bool) []netip.Prefix {
	var all []netip.Prefix
	for _, r := range s.SourceRanges {
		if r.IsValid() && r.Addr().Is4() == is4 {
			all = append(all, r.Masked())
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(a.Bits(), b.Bits()), a.Addr().Compare(b.Addr()))
	})
	var out []netip.Prefix
	for _, r := range all {
		if !slices.ContainsFunc(out, func(o netip.Prefix) bool { return o.Overlaps(r) }) {
			out = append(out, r)
		}
	}
	return out
}

// actions is what a frontend does with clients.
func (s *compiled) actions(t target) []flow.Action {
	switch t {
	case refused:
		return pipeline.Refuse()
	case ignored:
		return pipeline.Ignore()
	}
	set, affinity := s.sets[t.set], s.service.Affinity > 0
	if len(set.groups) == 1 && !affinity {
		return pipeline.ToGroup(set.groups[0])
	}
	return pipeline.ToEndpoints(set.groups[0], affinity)
}

// String names a place for people.
func (p place) String() string {
	if p.port == 0 {
		return p.addr.String()
	}
	at := netip.AddrPortFrom(p.addr, p.port)
	if (frontend{place: p}).isNodePort() {
		return fmt.Sprintf("node port %d of %s", p.port, p.protocol)
	}
	return fmt.Sprintf("%s of %s", at, p.protocol)
}
