// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/disk"
)

// indexedStore is host-local's disk store with an index, so that an allocation
// reads no file. It is the backend.Store of the allocator while the Allocator
// holds the lock, hence its own Lock and Unlock do nothing.
type indexedStore struct {
	dir  string
	disk *disk.Store

	byAddr  map[netip.Addr]Owner
	byOwner map[Owner][]netip.Addr // sorted
	// changed is the directory's time of modification after our own last
	// write; any other value means that somebody else was here.
	changed time.Time

	// err is the first failure of a call by the allocator, which reports it
	// as text only.
	err error
}

var _ backend.Store = (*indexedStore)(nil)

func openStore(dir string) (*indexedStore, error) {
	d, err := disk.New("", dir)
	if err != nil {
		return nil, fmt.Errorf("opening address store %s: %w", dir, err)
	}
	return &indexedStore{dir: dir, disk: d}, nil
}

// begin locks the store and brings the index up to date.
func (s *indexedStore) begin() error {
	if err := s.disk.Lock(); err != nil {
		return fmt.Errorf("locking address store %s: %w", s.dir, err)
	}
	changed, err := s.modified()
	if err == nil && (s.byAddr == nil || !changed.Equal(s.changed)) {
		err = s.load()
	}
	if err != nil {
		return errors.Join(err, s.disk.Unlock())
	}
	return nil
}

// end remembers the state of the directory and unlocks the store.
func (s *indexedStore) end() error {
	changed, err := s.modified()
	if err != nil {
		s.byAddr = nil // read it again
	}
	s.changed = changed
	return errors.Join(err, s.disk.Unlock())
}

// gone reports that the directory, and the lock file with it, was removed.
func (s *indexedStore) gone() bool {
	_, err := os.Stat(filepath.Join(s.dir, "lock"))
	return errors.Is(err, fs.ErrNotExist)
}

func (s *indexedStore) modified() (time.Time, error) {
	fi, err := os.Stat(s.dir)
	if err != nil {
		return time.Time{}, fmt.Errorf("address store: %w", err)
	}
	return fi.ModTime(), nil
}

// load reads the directory. A file without an owner is what is left of a write
// that a crash cut short: nobody can ever release it, so it is removed.
func (s *indexedStore) load() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("reading address store: %w", err)
	}
	s.byAddr, s.byOwner = map[netip.Addr]Owner{}, map[Owner][]netip.Addr{}
	for _, e := range entries {
		addr, err := netip.ParseAddr(e.Name())
		if err != nil || e.IsDir() {
			continue // the lock, last_reserved_ip.*
		}
		path := filepath.Join(s.dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("reading address store: %w", err)
		}
		owner, ok := parseOwner(data)
		if !ok {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("removing an address without owner: %w", err)
			}
			continue
		}
		s.index(owner, addr)
	}
	return nil
}

// parseOwner reads the content of an address file: container ID, line break,
// interface name.
func parseOwner(data []byte) (Owner, bool) {
	id, ifname, ok := strings.Cut(strings.TrimSpace(string(data)), disk.LineBreak)
	if !ok || id == "" || ifname == "" || strings.ContainsAny(ifname, "\r\n") {
		return Owner{}, false
	}
	return Owner{ContainerID: id, IfName: ifname}, true
}

func (s *indexedStore) index(owner Owner, addr netip.Addr) {
	s.byAddr[addr] = owner
	addrs := append(s.byOwner[owner], addr)
	slices.SortFunc(addrs, netip.Addr.Compare)
	s.byOwner[owner] = addrs
}

func (s *indexedStore) held(owner Owner) []netip.Addr { return s.byOwner[owner] }

// reserve takes one address that was not chosen by the allocator.
func (s *indexedStore) reserve(owner Owner, addr netip.Addr) error {
	switch holder, ok := s.byAddr[addr]; {
	case ok && holder == owner:
		return nil
	case ok:
		return fmt.Errorf("%s by %s: %w", addr, holder, ErrTaken)
	}
	s.err = nil
	family := "4"
	if addr.Is6() {
		family = "6"
	}
	ok, err := s.Reserve(owner.ContainerID, owner.IfName, addr.AsSlice(), family)
	if err == nil && !ok {
		return fmt.Errorf("%s: %w", addr, ErrTaken)
	}
	return err
}

// release removes every file of the owner, going on past a failure.
func (s *indexedStore) release(owner Owner) error {
	var left []netip.Addr
	var errs []error
	for _, addr := range s.byOwner[owner] {
		err := os.Remove(filepath.Join(s.dir, addr.String()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs, left = append(errs, err), append(left, addr)
			continue
		}
		delete(s.byAddr, addr)
	}
	if len(left) > 0 {
		s.byOwner[owner] = left
	} else {
		delete(s.byOwner, owner)
	}
	return errors.Join(errs...)
}

// Lock implements backend.Store.
func (*indexedStore) Lock() error { return nil }

// Unlock implements backend.Store.
func (*indexedStore) Unlock() error { return nil }

// Close implements backend.Store.
func (*indexedStore) Close() error { return nil }

// Reserve implements backend.Store.
func (s *indexedStore) Reserve(id, ifname string, ip net.IP, rangeID string) (bool, error) {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return false, fmt.Errorf("address %q has no family", ip)
	}
	addr = addr.Unmap()
	if _, taken := s.byAddr[addr]; taken {
		return false, nil
	}
	ok, err := s.disk.Reserve(id, ifname, ip, rangeID)
	if err != nil {
		// The file may be there, without an owner or not in the index.
		if rmErr := os.Remove(filepath.Join(s.dir, ip.String())); !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
		s.err = errors.Join(s.err, err)
		return false, err
	}
	if ok {
		s.index(Owner{ContainerID: id, IfName: ifname}, addr)
	}
	return ok, nil
}

// LastReservedIP implements backend.Store.
func (s *indexedStore) LastReservedIP(rangeID string) (net.IP, error) {
	return s.disk.LastReservedIP(rangeID)
}

// ReleaseByID implements backend.Store.
func (s *indexedStore) ReleaseByID(id, ifname string) error {
	return s.release(Owner{ContainerID: id, IfName: ifname})
}

// GetByID implements backend.Store.
func (s *indexedStore) GetByID(id, ifname string) []net.IP {
	var out []net.IP
	for _, addr := range s.held(Owner{ContainerID: id, IfName: ifname}) {
		out = append(out, addr.AsSlice())
	}
	return out
}
