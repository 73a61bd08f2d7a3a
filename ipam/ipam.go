// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
)

// ErrExhausted says that a Pod CIDR has no free address. The error that wraps
// it names the family and the CIDR.
var ErrExhausted = errors.New("no free address")

// ErrTaken says that an address belongs to another owner.
var ErrTaken = errors.New("address is taken")

// Owner is what addresses are allocated to: one interface of one container.
type Owner struct {
	ContainerID string
	IfName      string
}

// String returns the owner as CONTAINERID/IFNAME.
func (o Owner) String() string { return o.ContainerID + "/" + o.IfName }

// Assignment is an address and the gateway of the Pod CIDR it is from.
type Assignment struct {
	Addr    netip.Addr
	Gateway netip.Addr
}

// Allocation is what one owner holds, in the order of the addresses.
type Allocation struct {
	Owner Owner
	Addrs []netip.Addr
}

// Params are the parameters of New.
type Params struct {
	// Dir is the directory of the store; it is made when it does not exist.
	Dir string
}

// Allocator allocates addresses out of one store.
type Allocator struct {
	dir string

	mu    sync.Mutex
	store *indexedStore // nil until first used
}

// New returns an Allocator on a directory that it opens when it is first used.
func New(p Params) *Allocator { return &Allocator{dir: p.Dir} }

// Gateway returns the gateway of a Pod CIDR: its first address.
func Gateway(cidr netip.Prefix) netip.Addr { return cidr.Masked().Addr().Next() }

// Allocate returns one address out of every CIDR, in the order of the CIDRs: of
// every one or, on error, of none. An owner that already holds an address in
// each of them gets the same again; anything else it holds is released.
func (a *Allocator) Allocate(ctx context.Context, owner Owner, cidrs []netip.Prefix) ([]Assignment, error) {
	if len(cidrs) == 0 {
		return nil, errors.New("allocating addresses: the node has no Pod CIDR")
	}
	var out []Assignment
	err := a.locked(ctx, func(s *indexedStore) error {
		held := s.held(owner)
		if out = match(held, cidrs); out != nil {
			return nil
		}
		if len(held) > 0 {
			if err := s.release(owner); err != nil {
				return err
			}
		}
		for _, cidr := range cidrs {
			asg, err := allocateOne(s, owner, cidr)
			if err != nil {
				return errors.Join(err, s.release(owner))
			}
			out = append(out, asg)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("allocating addresses for %s: %w", owner, err)
	}
	return out, nil
}

// Reserve records that the owner holds these addresses, whatever the CIDRs are.
// Addresses that it holds already are left alone; one that another owner holds
// is ErrTaken and does not keep the others from being reserved.
func (a *Allocator) Reserve(ctx context.Context, owner Owner, addrs []netip.Addr) error {
	err := a.locked(ctx, func(s *indexedStore) error {
		var errs []error
		for _, addr := range addrs {
			errs = append(errs, s.reserve(owner, addr))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("reserving addresses for %s: %w", owner, err)
	}
	return nil
}

// Release gives back everything the owner holds. It is no error to hold nothing.
func (a *Allocator) Release(ctx context.Context, owner Owner) error {
	err := a.locked(ctx, func(s *indexedStore) error { return s.release(owner) })
	if err != nil {
		return fmt.Errorf("releasing the addresses of %s: %w", owner, err)
	}
	return nil
}

// List returns all allocations, sorted by owner.
func (a *Allocator) List(ctx context.Context) ([]Allocation, error) {
	var out []Allocation
	err := a.locked(ctx, func(s *indexedStore) error {
		for owner, addrs := range s.byOwner {
			out = append(out, Allocation{Owner: owner, Addrs: slices.Clone(addrs)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing allocated addresses: %w", err)
	}
	slices.SortFunc(out, func(x, y Allocation) int {
		return cmp.Or(cmp.Compare(x.Owner.ContainerID, y.Owner.ContainerID), cmp.Compare(x.Owner.IfName, y.Owner.IfName))
	})
	return out, nil
}

// Close gives the store's files back. The Allocator opens it again when used.
func (a *Allocator) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.store == nil {
		return nil
	}
	err := a.store.disk.Close()
	a.store = nil
	return err
}

// locked runs fn with the store open, locked and its index up to date.
func (a *Allocator) locked(ctx context.Context, fn func(*indexedStore) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.store != nil && a.store.gone() {
		if err := a.store.disk.Close(); err != nil {
			return err
		}
		a.store = nil
	}
	if a.store == nil {
		if a.store, err = openStore(a.dir); err != nil {
			return err
		}
	}
	if err := a.store.begin(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.store.end()) }()
	return fn(a.store)
}

// leastHostBits of a Pod CIDR leave room for network, gateway, the address of
// Services, broadcast and Pods.
const leastHostBits = 3

// match returns held as assignments in the order of the CIDRs, or nil when it
// is not exactly one address in each.
func match(held []netip.Addr, cidrs []netip.Prefix) []Assignment {
	if len(held) != len(cidrs) {
		return nil
	}
	var out []Assignment
	for _, cidr := range cidrs {
		i := slices.IndexFunc(held, cidr.Contains)
		if i < 0 {
			return nil
		}
		out = append(out, Assignment{Addr: held[i], Gateway: Gateway(cidr)})
	}
	return out
}

// allocateOne takes the next free address of one CIDR. The store is locked.
func allocateOne(s *indexedStore, owner Owner, cidr netip.Prefix) (Assignment, error) {
	cidr = cidr.Masked()
	family := 4
	if cidr.Addr().Is6() {
		family = 6
	}
	if cidr.Addr().BitLen()-cidr.Bits() < leastHostBits {
		return Assignment{}, fmt.Errorf("IPv%d Pod CIDR %s: has fewer than %d addresses", family, cidr, 1<<leastHostBits)
	}
	first := Gateway(cidr).Next().Next().Next() // behind the addresses of Services and of probes
	set := allocator.RangeSet{{
		Subnet:     types.IPNet{IP: cidr.Addr().AsSlice(), Mask: net.CIDRMask(cidr.Bits(), cidr.Addr().BitLen())},
		RangeStart: first.AsSlice(),
	}}
	if err := set.Canonicalize(); err != nil {
		return Assignment{}, fmt.Errorf("IPv%d Pod CIDR %s: %w", family, cidr, err)
	}
	s.err = nil
	// The family is the key of last_reserved_ip: it outlives a change of CIDR,
	// and the allocator ignores a last address that is not in its range.
	conf, err := allocator.NewIPAllocator(&set, s, family).Get(owner.ContainerID, owner.IfName, nil)
	switch {
	case s.err != nil:
		return Assignment{}, fmt.Errorf("IPv%d Pod CIDR %s: %w", family, cidr, s.err)
	case err != nil:
		// The allocator has one way left to fail; its error has no type.
		return Assignment{}, fmt.Errorf("IPv%d Pod CIDR %s: %w", family, cidr, ErrExhausted)
	}
	addr, _ := netip.AddrFromSlice(conf.Address.IP)
	return Assignment{Addr: addr.Unmap(), Gateway: Gateway(cidr)}, nil
}
