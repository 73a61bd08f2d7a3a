// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math/bits"
	"net/netip"
)

// Digest says what an object contains, so that a node can say what it has
// without sending it: equal digests are equal contents. It is no proof against
// somebody who looks for two contents with one digest. A different version of
// Waymark may compute different ones, which costs sending the object again.
type Digest struct{ Hi, Lo uint64 }

func (d Digest) String() string { return fmt.Sprintf("%016x%016x", d.Hi, d.Lo) }

// Add returns the digest of a group with one more member, whose digest is m.
// The order of members does not matter.
func (d Digest) Add(m Digest) Digest {
	lo, carry := bits.Add64(d.Lo, m.Lo, 0)
	hi, _ := bits.Add64(d.Hi, m.Hi, carry)
	return Digest{Hi: hi, Lo: lo}
}

// Sub takes a member away.
func (d Digest) Sub(m Digest) Digest {
	lo, borrow := bits.Sub64(d.Lo, m.Lo, 0)
	hi, _ := bits.Sub64(d.Hi, m.Hi, borrow)
	return Digest{Hi: hi, Lo: lo}
}

// DigestOf returns the digest of an address as the member of a group.
func DigestOf(a netip.Addr) Digest {
	var b [17]byte
	address := a.As16()
	copy(b[:], address[:])
	b[16] = byte(a.BitLen()) // 10.0.0.1 is not ::ffff:10.0.0.1
	return sum(sha256.Sum256(b[:]))
}

// Digest returns the sum of the members' digests; zero for no members.
func (a Addresses) Digest() Digest {
	var d Digest
	for address := range a {
		d = d.Add(DigestOf(address))
	}
	return d
}

// Digest returns the digest of the policy's contents.
func (p *Policy) Digest() Digest {
	h := newHasher()
	h.number(uint64(p.Key.Kind))
	h.text(p.Key.Namespace)
	h.text(p.Key.Name)
	h.text(p.UID)
	h.number(uint64(p.Tier))
	h.number(uint64(p.Priority))
	h.id(p.Subject)
	for _, isolates := range p.Isolates {
		h.flag(isolates)
	}
	h.number(uint64(len(p.Rules)))
	for i := range p.Rules {
		h.rule(&p.Rules[i])
	}
	return h.digest()
}

// Digest returns the digest of the identity's contents.
func (i *Identity) Digest() Digest {
	h := newHasher()
	h.id(i.ID)
	h.ids(i.Subjects)
	return h.digest()
}

// Digest returns the digest of the Pod's contents.
func (p Pod) Digest() Digest {
	h := newHasher()
	h.text(p.Key.Namespace)
	h.text(p.Key.Name)
	h.text(p.UID)
	h.id(p.Identity)
	return h.digest()
}

func sum(b [sha256.Size]byte) Digest {
	return Digest{Hi: binary.BigEndian.Uint64(b[:8]), Lo: binary.BigEndian.Uint64(b[8:16])}
}

// hasher hashes values so that no two sequences of values are the same bytes.
type hasher struct {
	hash hash.Hash
	buf  []byte
}

func newHasher() *hasher { return &hasher{hash: sha256.New()} }

// flush hands on what was collected; a hash never fails.
func (h *hasher) flush() {
	_, _ = h.hash.Write(h.buf)
	h.buf = h.buf[:0]
}

func (h *hasher) digest() Digest {
	h.flush()
	return sum([sha256.Size]byte(h.hash.Sum(nil)))
}

func (h *hasher) number(n uint64) {
	h.buf = binary.AppendUvarint(h.buf, n)
	if len(h.buf) >= 1024 {
		h.flush()
	}
}

func (h *hasher) text(s string) {
	h.number(uint64(len(s)))
	h.buf = append(h.buf, s...)
}

func (h *hasher) flag(b bool) {
	if b {
		h.number(1)
	} else {
		h.number(0)
	}
}

func (h *hasher) id(id ID) { h.buf = append(h.buf, id[:]...) }

func (h *hasher) ids(ids []ID) {
	h.number(uint64(len(ids)))
	for _, id := range ids {
		h.id(id)
	}
}

func (h *hasher) prefix(p netip.Prefix) {
	b := p.Addr().AsSlice()
	h.text(string(b))
	h.number(uint64(p.Bits()))
}

func (h *hasher) rule(r *Rule) {
	h.number(uint64(r.Direction))
	h.number(uint64(r.Action))
	h.number(uint64(r.Index))
	h.text(r.Name)
	h.id(r.Subject)
	h.flag(r.AnyPeer)
	h.ids(r.Peers)
	h.number(uint64(len(r.Blocks)))
	for _, b := range r.Blocks {
		h.prefix(b.CIDR)
		h.number(uint64(len(b.Except)))
		for _, e := range b.Except {
			h.prefix(e)
		}
	}
	h.number(uint64(len(r.Ports)))
	for _, p := range r.Ports {
		h.number(uint64(p.Protocol))
		h.number(uint64(p.First))
		h.number(uint64(p.Last))
	}
}
