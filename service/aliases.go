// SPDX-License-Identifier: Apache-2.0

package service

import (
	"hash/fnv"
	"net/netip"

	"github.com/waymark-net/waymark/ovs/pipeline"
)

// aliases gives addresses of Services to the outside an alias each: how the
// kernel hands the switch what comes for them.
type aliases struct {
	// of has the alias of every address that has one.
	of map[netip.Addr]netip.Addr

	users      map[netip.Addr]map[Key]bool
	ipv4, ipv6 numbers[netip.Addr]
	used4      int
	// moved are addresses that have another alias than their users know.
	moved map[netip.Addr]bool
}

// mostAliases4 bounds the aliases of IPv4, so that a free one is found soon.
const mostAliases4 = 6000

func newAliases() *aliases {
	a := &aliases{of: map[netip.Addr]netip.Addr{}, users: map[netip.Addr]map[Key]bool{}, moved: map[netip.Addr]bool{}}
	changed := func(addr netip.Addr) { a.moved[addr] = true }
	hash := func(bits int) func(netip.Addr, int) uint32 {
		return func(addr netip.Addr, try int) uint32 {
			h := fnv.New64a()
			_, _ = h.Write(addr.AsSlice())
			return row(h.Sum64(), try, bits)
		}
	}
	a.ipv4 = numbers[netip.Addr]{hash: hash(32 - pipeline.Aliases4.Bits()), compare: netip.Addr.Compare, changed: changed}
	a.ipv6 = numbers[netip.Addr]{hash: hash(32), compare: netip.Addr.Compare, changed: changed}
	return a
}

// add has a Service use an address. There is no alias when too many addresses of
// IPv4 have one.
func (a *aliases) add(addr netip.Addr, k Key) {
	if a.users[addr] == nil {
		if addr.Is4() && a.used4 == mostAliases4 {
			return
		}
		a.users[addr] = map[Key]bool{}
		a.numbers(addr).add(addr)
		a.resolve(addr)
		if addr.Is4() {
			a.used4++
		}
	}
	a.users[addr][k] = true
}

// remove ends that.
func (a *aliases) remove(addr netip.Addr, k Key) {
	users := a.users[addr]
	if !users[k] {
		return
	}
	if delete(users, k); len(users) > 0 {
		return
	}
	delete(a.users, addr)
	delete(a.of, addr)
	delete(a.moved, addr)
	a.numbers(addr).remove(addr)
	if addr.Is4() {
		a.used4--
	}
}

// settle returns whose addresses have another alias since the last call.
func (a *aliases) settle() []Key {
	var keys []Key
	for addr := range a.moved {
		a.resolve(addr)
		for k := range a.users[addr] {
			keys = append(keys, k)
		}
	}
	clear(a.moved)
	return keys
}

func (a *aliases) numbers(addr netip.Addr) *numbers[netip.Addr] {
	if addr.Is4() {
		return &a.ipv4
	}
	return &a.ipv6
}

func (a *aliases) resolve(addr netip.Addr) {
	n, _ := a.numbers(addr).of(addr)
	base := pipeline.Aliases6.Addr()
	if addr.Is4() {
		base = pipeline.Aliases4.Addr()
	}
	bytes := base.AsSlice()
	for i := len(bytes) - 1; n > 0; i-- {
		bytes[i] |= byte(n)
		n >>= 8
	}
	a.of[addr], _ = netip.AddrFromSlice(bytes)
}
