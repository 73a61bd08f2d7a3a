// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/knftables"
)

// nftTable is a table as data: what is to be, and what can be compared. With no
// chains there is to be none.
type nftTable struct {
	// what is told of its content to people who look at it.
	what string
	// objects are the sets and maps, by name.
	objects map[string]nftObject
	chains  []nftChain
}

// nftObject is a set or, with values, a map.
type nftObject struct {
	typ      string
	isMap    bool
	interval bool
	// elements have keys, of parts joined by keySeparator, and values, empty in
	// sets.
	elements map[string]string
}

// nftChain is a chain with its rules; without a hook others jump to it.
type nftChain struct {
	name     string
	typ      knftables.BaseChainType
	hook     knftables.BaseChainHook
	priority knftables.BaseChainPriority
	rules    []string
}

// nftFamilies are the IP families, IPv4 first, in the words of nftables.
var nftFamilies = [...]struct {
	number          uint8
	ip, suffix, typ string
}{
	{unix.NFPROTO_IPV4, "ip", "-v4", "ipv4_addr"},
	{unix.NFPROTO_IPV6, "ip6", "-v6", "ipv6_addr"},
}

const keySeparator = " . "

func key(parts ...string) string { return strings.Join(parts, keySeparator) }

// intervals is a set of addresses of a type, which must not overlap.
func intervals(typ string, of []netip.Prefix) nftObject {
	o := nftObject{typ: typ, interval: true, elements: map[string]string{}}
	for _, p := range of {
		o.elements[elementText(p)] = ""
	}
	return o
}

func elementText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// sameForm says that two tables differ in elements at most. Intervals are of the
// form: in one transaction, new ones may overlap those that they replace.
func (t nftTable) sameForm(o nftTable) bool {
	return slices.EqualFunc(t.chains, o.chains, func(a, b nftChain) bool {
		return a.name == b.name && slices.Equal(a.rules, b.rules)
	}) && maps.EqualFunc(t.objects, o.objects, func(a, b nftObject) bool {
		return a.typ == b.typ && (!a.interval || maps.Equal(a.elements, b.elements))
	})
}

// write puts the whole table into a transaction, in place of what there was.
func (t nftTable) write(tx *knftables.Transaction) {
	// Adding first makes the deletion valid in either case.
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	tx.Add(&knftables.Table{Comment: knftables.PtrTo(t.what + " of Waymark; changes made by hand are undone")})
	for _, name := range slices.Sorted(maps.Keys(t.objects)) {
		o := t.objects[name]
		var flags []knftables.SetFlag
		if o.interval {
			flags = append(flags, knftables.IntervalFlag)
		}
		if o.isMap {
			tx.Add(&knftables.Map{Name: name, Type: o.typ, Flags: flags})
		} else {
			tx.Add(&knftables.Set{Name: name, Type: o.typ, Flags: flags})
		}
		o.change(tx, name, nil)
	}
	for _, c := range t.chains {
		chain := &knftables.Chain{Name: c.name}
		if c.hook != "" {
			chain.Type, chain.Hook, chain.Priority = knftables.PtrTo(c.typ), knftables.PtrTo(c.hook), knftables.PtrTo(c.priority)
		}
		tx.Add(chain)
		for _, r := range c.rules {
			tx.Add(&knftables.Rule{Chain: c.name, Rule: r, Comment: knftables.PtrTo(fingerprint(r))})
		}
	}
}

// change leads from some elements to those of the object. What has another
// value is deleted first: the kernel refuses to change it.
func (o nftObject) change(tx *knftables.Transaction, name string, have map[string]string) {
	element := func(k, value string) *knftables.Element {
		e := &knftables.Element{Key: strings.Split(k, keySeparator)}
		if o.isMap {
			e.Map, e.Value = name, []string{value}
		} else {
			e.Set = name
		}
		return e
	}
	for _, k := range slices.Sorted(maps.Keys(have)) {
		if value, ok := o.elements[k]; !ok || value != have[k] {
			tx.Delete(element(k, have[k]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(o.elements)) {
		if value, ok := have[k]; !ok || value != o.elements[k] {
			tx.Add(element(k, o.elements[k]))
		}
	}
}
