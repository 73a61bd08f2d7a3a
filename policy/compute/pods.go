// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/waymark-net/waymark/policy"
)

// UpsertPod takes in a Pod as it is now. The Index keeps the intent's slices
// and labels, not the intent.
func (x *Index) UpsertPod(in *policy.PodIntent) {
	if !in.Judged() {
		x.DeletePod(in.Key)
		return
	}
	p := x.pods[in.Key]
	if p != nil && p.identity != nil {
		if p.uid != in.UID {
			p.uid = in.UID
			x.touchPod(p)
		}
		if x.nodeName(p.node) == in.Node && slices.Equal(p.addresses, in.Addresses) &&
			maps.Equal(p.identity.labels, in.Labels) && slices.Equal(p.identity.ports, in.Ports) {
			return
		}
		x.detach(p)
	} else {
		if p == nil {
			p = &pod{key: in.Key}
			x.pods[in.Key] = p
		}
		p.uid = in.UID
	}
	x.attach(p, in)
	x.touchPod(p)
}

// DeletePod takes a Pod out. One that is not there is no error.
func (x *Index) DeletePod(key policy.PodKey) {
	p := x.pods[key]
	if p == nil || p.identity == nil {
		return
	}
	x.detach(p)
	x.touchPod(p)
}

// attach makes a Pod that has no identity that of the intent.
func (x *Index) attach(p *pod, in *policy.PodIntent) {
	i := x.identity(in)
	p.identity = i
	if p.next = i.pods; p.next != nil {
		p.next.prev = p
	}
	i.pods = p
	if p.node = x.node(in.Node); p.node != 0 {
		n := x.nodes[p.node]
		if p.onNext = n.pods; p.onNext != nil {
			p.onNext.onPrev = p
		}
		n.pods = p
		if i.nodes.inc(p.node) {
			x.touchIdentity(i)
			for _, m := range i.in {
				if m.selection.subject != nil {
					x.incSubject(m.selection.subject, p.node)
				}
			}
		}
	}
	p.addresses = in.Addresses
	for _, a := range p.addresses {
		x.own(p, a)
	}
}

// detach takes a Pod out of its identity and from its node.
func (x *Index) detach(p *pod) {
	for _, a := range p.addresses {
		x.disown(p, a)
	}
	p.addresses = nil
	i := p.identity
	if p.node != 0 {
		if i.nodes.dec(p.node) {
			x.touchIdentity(i)
			for _, m := range i.in {
				if m.selection.subject != nil {
					x.decSubject(m.selection.subject, p.node)
				}
			}
		}
		if p.onNext != nil {
			p.onNext.onPrev = p.onPrev
		}
		if p.onPrev != nil {
			p.onPrev.onNext = p.onNext
		} else {
			x.nodes[p.node].pods = p.onNext
			x.letNode(p.node)
		}
	}
	if p.next != nil {
		p.next.prev = p.prev
	}
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		i.pods = p.next
	}
	x.touchIdentity(i) // it may be empty now
	p.identity, p.node, p.next, p.prev, p.onNext, p.onPrev = nil, 0, nil, nil, nil, nil
}

// identity returns that of the intent, and makes it if need be.
func (x *Index) identity(in *policy.PodIntent) *identity {
	x.scratch = policy.AppendIdentity(x.scratch[:0], in.Key.Namespace, in.Labels, in.Ports)
	if i := x.identities[string(x.scratch)]; i != nil {
		return i
	}
	i := &identity{
		id: policy.IdentityID(x.scratch), text: string(x.scratch),
		space: x.space(in.Key.Namespace), labels: in.Labels, ports: in.Ports, stale: true,
	}
	x.identities[i.text] = i
	i.space.identities.add(i)
	x.eachScope(i.space, func(s *scope) {
		s.selections.match(i.labels, func(s *selection) { x.join(i, s) })
	})
	return i
}

// drop forgets an identity without Pods.
func (x *Index) drop(i *identity) {
	for len(i.in) > 0 {
		x.leave(i, len(i.in)-1)
	}
	delete(x.identities, i.text)
	i.space.identities.remove(i)
	x.letSpace(i.space)
}

// own says that a Pod has an address.
func (x *Index) own(p *pod, a netip.Addr) {
	for _, m := range p.identity.in {
		if g := m.selection.group; g != nil && !x.heldByOther(m.selection, a, p) {
			x.addAddress(g, a)
		}
	}
	first, taken := x.owners[a]
	if !taken {
		x.owners[a] = p
		return
	}
	if len(x.shared[a]) == 0 {
		x.shared[a] = []*pod{first}
	}
	x.shared[a] = append(x.shared[a], p)
}

// disown takes it back.
func (x *Index) disown(p *pod, a netip.Addr) {
	if rest, several := x.shared[a]; several {
		if rest = without(rest, p); len(rest) == 1 {
			delete(x.shared, a)
		} else {
			x.shared[a] = rest
		}
		x.owners[a] = rest[0]
	} else {
		delete(x.owners, a)
	}
	for _, m := range p.identity.in {
		if g := m.selection.group; g != nil && !x.heldByOther(m.selection, a, p) {
			x.removeAddress(g, a)
		}
	}
}

// heldByOther reports whether a Pod of the selection other than p has the
// address.
func (x *Index) heldByOther(s *selection, a netip.Addr, p *pod) bool {
	if several, ok := x.shared[a]; ok {
		return slices.ContainsFunc(several, func(o *pod) bool { return o != p && s.has(o.identity) })
	}
	o := x.owners[a]
	return o != nil && o != p && s.has(o.identity)
}

func (x *Index) touchPod(p *pod) {
	if !p.dirty {
		p.dirty = true
		x.dirty.pods = append(x.dirty.pods, p)
	}
}

func (x *Index) touchIdentity(i *identity) {
	if !i.dirty {
		i.dirty = true
		x.dirty.identities = append(x.dirty.identities, i)
	}
}
