// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/knftables"
)

// serviceTableName is our table for Services, of family inet.
const serviceTableName = "waymark-services"

// The objects of that table.
const (
	setNodePorts  = "node-ports"
	chainServices = "services"
)

// serviceTable is the table as data. With no chains there is to be none.
type serviceTable struct {
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

const keySeparator = " . "

func key(parts ...string) string { return strings.Join(parts, keySeparator) }

func decimal[N uint8 | uint16](n N) string { return strconv.Itoa(int(n)) }

// renderServices says which table the rules make. Sets and maps are there even
// if empty, so that the next port or alias is an element more and nothing else.
func renderServices(r serviceRules) serviceTable {
	if r.empty() {
		return serviceTable{}
	}
	ports := nftObject{typ: "inet_proto . inet_service", elements: map[string]string{}}
	for _, p := range r.ports {
		ports.elements[key(decimal(p.Protocol), decimal(p.Port))] = ""
	}
	t := serviceTable{objects: map[string]nftObject{setNodePorts: ports}}
	services := nftChain{name: chainServices}
	var nodePorts []string
	for i, fam := range []struct{ ip, suffix, typ, not string }{
		{"ip", "-v4", "ipv4_addr", "127.0.0.0/8"},
		{"ip6", "-v6", "ipv6_addr", "{ ::1, fe80::/10 }"},
	} {
		f := r.families[i]
		aliases := nftObject{typ: fam.typ + " . inet_proto . inet_service : " + fam.typ, isMap: true, elements: map[string]string{}}
		for _, a := range f.aliases {
			aliases.elements[key(a.Addr.Addr().String(), decimal(a.Protocol), decimal(a.Addr.Port()))] = a.To.String()
		}
		t.objects["aliases"+fam.suffix] = aliases
		services.rules = append(services.rules,
			"dnat "+fam.ip+" to "+fam.ip+" daddr . meta l4proto . th dport map @aliases"+fam.suffix)
		if !f.to.IsValid() {
			continue
		}
		rule := "meta l4proto . th dport @" + setNodePorts + " " + fam.ip + " daddr != " + fam.not
		if len(f.within) > 0 {
			addrs := nftObject{typ: fam.typ, interval: true, elements: map[string]string{}}
			for _, p := range f.within {
				addrs.elements[elementText(p)] = ""
			}
			t.objects["node-port-addrs"+fam.suffix] = addrs
			rule += " " + fam.ip + " daddr @node-port-addrs" + fam.suffix
		}
		nodePorts = append(nodePorts, rule+" fib daddr type local dnat "+fam.ip+" to "+f.to.String())
	}
	services.rules = append(services.rules, nodePorts...)
	jump := []string{"jump " + chainServices}
	// The priority "dstnat" has that name in prerouting only.
	t.chains = []nftChain{
		services,
		{"prerouting", knftables.NATType, knftables.PreroutingHook, knftables.DNATPriority, jump},
		{"output", knftables.NATType, knftables.OutputHook, "-100", jump},
	}
	return t
}

// nftServices writes the table through the nft program.
type nftServices struct{ client knftables.Interface }

// apply compares the wanted table with the kernel's and writes what differs; it
// returns whether it wrote.
func (n nftServices) apply(ctx context.Context, want serviceTable) (bool, error) {
	if len(want.chains) == 0 {
		return n.remove(ctx)
	}
	have, err := n.read(ctx, want)
	if err != nil {
		return false, err
	}
	return n.change(ctx, have, want)
}

// change leads from one table to another: by elements if nothing else differs.
func (n nftServices) change(ctx context.Context, have, want serviceTable) (bool, error) {
	tx := n.client.NewTransaction()
	switch {
	case len(want.chains) == 0 && len(have.chains) == 0:
		return false, nil
	case len(want.chains) == 0:
		tx.Delete(&knftables.Table{})
	case !have.sameForm(want):
		want.write(tx)
	default:
		for name, o := range want.objects {
			o.change(tx, name, have.objects[name].elements)
		}
	}
	if tx.NumOperations() == 0 {
		return false, nil
	}
	if err := n.client.Run(ctx, tx); err != nil {
		return false, fmt.Errorf("writing nftables table inet %s: %w", serviceTableName, err)
	}
	return true, nil
}

// remove deletes the table and returns whether there was one.
func (n nftServices) remove(ctx context.Context) (bool, error) {
	objects, err := n.client.ListAll(ctx)
	if knftables.IsNotFound(err) || err == nil && len(objects) == 0 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("listing nftables table inet %s: %w", serviceTableName, err)
	}
	return n.change(ctx, serviceTable{chains: []nftChain{{}}}, serviceTable{})
}

// read returns the kernel's table: the whole of it if its form is the wanted
// one, else one of another form.
func (n nftServices) read(ctx context.Context, want serviceTable) (serviceTable, error) {
	fail := func(err error) (serviceTable, error) {
		if knftables.IsNotFound(err) {
			return serviceTable{}, nil
		}
		return serviceTable{}, fmt.Errorf("listing nftables table inet %s: %w", serviceTableName, err)
	}
	objects, err := n.client.ListAll(ctx)
	if err != nil {
		return fail(err)
	}
	var chains, sets, mapNames []string
	for _, c := range want.chains {
		chains = append(chains, c.name)
	}
	for name, o := range want.objects {
		if o.isMap {
			mapNames = append(mapNames, name)
		} else {
			sets = append(sets, name)
		}
	}
	if !sameNames(objects["chain"], chains) || !sameNames(objects["set"], sets) || !sameNames(objects["map"], mapNames) {
		return serviceTable{}, nil
	}
	rules, err := n.client.ListRules(ctx, "")
	if err != nil {
		return fail(err)
	}
	if !sameRules(rules, want.chains) {
		return serviceTable{}, nil
	}
	have := serviceTable{chains: want.chains, objects: map[string]nftObject{}}
	for name, o := range want.objects {
		kind := "set"
		if o.isMap {
			kind = "map"
		}
		elements, err := n.client.ListElements(ctx, kind, name)
		if err != nil {
			return fail(err)
		}
		o.elements = make(map[string]string, len(elements))
		for _, e := range elements {
			o.elements[canonical(e.Key)] = canonical(e.Value)
		}
		have.objects[name] = o
	}
	return have, nil
}

// sameRules compares the rules of chains by their fingerprints.
func sameRules(have []*knftables.Rule, want []nftChain) bool {
	byChain := make(map[string][]string)
	for _, r := range have {
		comment := ""
		if r.Comment != nil {
			comment = *r.Comment
		}
		byChain[r.Chain] = append(byChain[r.Chain], comment)
	}
	for _, c := range want {
		if !slices.EqualFunc(byChain[c.name], c.rules, func(comment, text string) bool { return comment == fingerprint(text) }) {
			return false
		}
	}
	return true
}

// canonical is the text that we write for what nft lists.
func canonical(parts []string) string {
	out := make([]string, 0, len(parts))
	for _, p := range parts {
		switch p { // nft knows names where the system has /etc/protocols
		case "tcp":
			p = "6"
		case "udp":
			p = "17"
		case "sctp":
			p = "132"
		}
		if a, err := netip.ParseAddr(p); err == nil {
			p = a.String()
		} else if prefix, err := netip.ParsePrefix(p); err == nil {
			p = elementText(prefix)
		}
		out = append(out, p)
	}
	return key(out...)
}

// sameForm says that two tables differ in elements at most.
func (t serviceTable) sameForm(o serviceTable) bool {
	return slices.EqualFunc(t.chains, o.chains, func(a, b nftChain) bool {
		return a.name == b.name && slices.Equal(a.rules, b.rules)
	}) && maps.EqualFunc(t.objects, o.objects, func(a, b nftObject) bool { return a.typ == b.typ })
}

// write puts the whole table into a transaction, in place of what there was.
func (t serviceTable) write(tx *knftables.Transaction) {
	tx.Add(&knftables.Table{})
	tx.Delete(&knftables.Table{})
	tx.Add(&knftables.Table{Comment: knftables.PtrTo("Services of Waymark; changes made by hand are undone")})
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
