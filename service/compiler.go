// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
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
}

// Compiler computes flows and groups. The zero value is ready for use.
type Compiler struct {
	services map[Key]*compiled
	dirty    map[Key]bool
	// regroup says that the set of groups may have changed.
	regroup bool
}

type compiled struct {
	service Service
	// plan has the groups of the Service in order, with their numbers.
	plan []planned
}

// planned is what a frontend needs.
type planned struct {
	frontend  pipeline.Frontend
	endpoints []netip.AddrPort
	groups    []uint32
}

// Set says how a Service is now. The Service must not be changed afterwards.
func (c *Compiler) Set(s Service) {
	old, known := c.services[s.Key]
	if known && old.service.Equal(s) {
		return
	}
	if c.services == nil {
		c.services = map[Key]*compiled{}
	}
	next := &compiled{service: s, plan: plan(s)}
	c.services[s.Key] = next
	c.mark(s.Key)
	if !known || !slices.EqualFunc(old.plan, next.plan, func(a, b planned) bool {
		return a.frontend == b.frontend && len(a.groups) == len(b.groups)
	}) {
		c.regroup = true
		return
	}
	for i := range next.plan {
		next.plan[i].groups = old.plan[i].groups
	}
}

// Delete says that a Service is no longer there.
func (c *Compiler) Delete(k Key) {
	if _, known := c.services[k]; !known {
		return
	}
	delete(c.services, k)
	c.mark(k)
	c.regroup = true
}

func (c *Compiler) mark(k Key) {
	if c.dirty == nil {
		c.dirty = map[Key]bool{}
	}
	c.dirty[k] = true
}

// Flush returns the Services whose flows or groups may be others than at the
// last Flush: first those that are gone, so that what they held is free, then
// the rest, each in order of their keys.
func (c *Compiler) Flush() []Desired {
	if c.regroup {
		c.number()
		c.regroup = false
	}
	var gone, out []Desired
	for _, k := range slices.SortedFunc(maps.Keys(c.dirty), Key.compare) {
		d := Desired{Key: k, Owner: pipeline.OwnerService(k.Namespace, k.Name)}
		s, ok := c.services[k]
		if !ok {
			d.Gone = true
			gone = append(gone, d)
			continue
		}
		d.Flows, d.Groups = s.render()
		out = append(out, d)
	}
	clear(c.dirty)
	return append(gone, out...)
}

// number gives every group its number: a hash of what it is for, so that it
// does not depend on what else there was. Should two hashes be the same, the
// group that comes later in the order of keys tries again.
func (c *Compiler) number() {
	taken := map[uint32]bool{}
	for _, k := range slices.SortedFunc(maps.Keys(c.services), Key.compare) {
		for i := range c.services[k].plan {
			p := &c.services[k].plan[i]
			// Not in place: rendered flows are of the old ones.
			groups := make([]uint32, len(p.groups))
			for j := range groups {
				groups[j] = unique(fmt.Sprintf("%s %s %d %d", k, p.frontendName(), j, len(groups)), taken)
			}
			if !slices.Equal(groups, p.groups) {
				p.groups = groups
				c.mark(k)
			}
		}
	}
}

// frontendName tells the ports and families of a Service apart. It leaves the
// address out, which may change.
func (p *planned) frontendName() string {
	family := "IPv4"
	if p.frontend.Addr.Is6() {
		family = "IPv6"
	}
	return fmt.Sprintf("%s %s %d", family, Protocol(p.frontend.Protocol), p.frontend.Port)
}

// unique returns the hash of a text that is not taken, and takes it.
func unique(text string, taken map[uint32]bool) uint32 {
	for try := 0; ; try++ {
		h := fnv.New32a()
		fmt.Fprintf(h, "%s %d", text, try)
		if id := h.Sum32(); id > 0 && id <= flow.MaxGroup && !taken[id] {
			taken[id] = true
			return id
		}
	}
}

// plan lists the frontends of a Service with room for their groups. A port that
// is named twice is served as it is named first.
func plan(s Service) []planned {
	var out []planned
	for _, a := range s.ClusterIPs {
		for _, p := range s.Ports {
			f := pipeline.Frontend{Addr: a, Protocol: uint8(p.Protocol), Port: p.Port}
			if slices.ContainsFunc(out, func(o planned) bool { return o.frontend == f }) {
				continue
			}
			endpoints := p.usable(a.Is4(), s.PublishNotReady)
			out = append(out, planned{frontend: f, endpoints: endpoints, groups: make([]uint32, groupCount(len(endpoints)))})
		}
	}
	return out
}

func (c *compiled) render() ([]flow.Flow, []flow.Group) {
	var flows []flow.Flow
	var groups []flow.Group
	for _, a := range c.service.ClusterIPs {
		flows = append(flows, pipeline.ClusterIP(a))
	}
	for _, p := range c.plan {
		flows = append(flows, pipeline.ServiceShares(p.frontend, p.groups)...)
		for i, id := range p.groups {
			groups = append(groups, flow.Group{ID: id, Type: flow.GroupSelect, Buckets: bucketsOf(p.endpoints, i)})
		}
	}
	return flows, groups
}
