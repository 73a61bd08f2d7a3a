// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// State is the state of a session, with its value in packets (RFC 5880, 4.1).
type State uint8

// The states.
const (
	AdminDown State = 0
	Down      State = 1
	Init      State = 2
	Up        State = 3
)

// String returns the name of the state as RFC 5880 writes it.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

var stateNames = [...]string{"AdminDown", "Down", "Init", "Up"}

// Diagnostic says why a session last changed its state (RFC 5880, 4.1).
type Diagnostic uint8

// The diagnostics that this package sets itself; a peer may send others.
const (
	DiagNone             Diagnostic = 0
	DiagDetectionExpired Diagnostic = 1
	DiagNeighborSignaled Diagnostic = 3
	DiagAdminDown        Diagnostic = 7
)

// String says the diagnostic in words.
func (d Diagnostic) String() string {
	if int(d) < len(diagNames) {
		return diagNames[d]
	}
	return fmt.Sprintf("diagnostic %d", uint8(d))
}

var diagNames = [...]string{
	"no diagnostic", "control detection time expired", "echo function failed",
	"neighbor signaled session down", "forwarding plane reset", "path down",
	"concatenated path down", "administratively down", "reverse concatenated path down",
}

// Defaults and bounds of a session's parameters.
const (
	DefaultInterval   = 300 * time.Millisecond
	DefaultDetectMult = 3
	MinInterval       = 10 * time.Millisecond
	MaxInterval       = time.Minute
	// DefaultMinTTL is the least TTL of what a multihop peer sends.
	DefaultMinTTL = 1
)

// Session is one wanted session. Name is what it is spoken of by; with another
// peer, local address, interface or kind it is another session.
type Session struct {
	Name string
	// Local is our address, zero: the kernel's choice.
	Local netip.Addr
	// Peer is the address of the other end, IPv4 or IPv6. A zone is the same as
	// Interface.
	Peer netip.Addr
	// Interface that packets leave by and must come by, empty: any. Needed for
	// link-local peers.
	Interface string
	// Multihop is RFC 5883: the peer may be some hops away. Without it packets
	// must come with TTL 255, from a neighbour on the link (RFC 5881).
	Multihop bool
	// MinTTL is the least TTL or hop limit that a packet of a multihop peer comes
	// with, 0: 1. A peer at most n routers away sends 255 and is seen with 255-n.
	MinTTL uint8
	// DesiredMinTx is the interval that we want to send at, RequiredMinRx the least
	// that we ask the peer to keep; 10 ms to 1 min, 0: 300 ms. The slower side's
	// wish counts for each direction.
	DesiredMinTx  time.Duration
	RequiredMinRx time.Duration
	// DetectMult is how many of our packets the peer misses before it says Down,
	// 0: 3.
	DetectMult uint8
}

// normalize fills in defaults and returns what is wrong, all of it.
func (s Session) normalize() (Session, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Name == "" {
		bad("no name")
	}
	zone := s.Peer.Zone()
	if s.Interface != "" && zone != "" && s.Interface != zone {
		bad("peer %s is not on interface %s", s.Peer, s.Interface)
	}
	s.Interface = cmp.Or(s.Interface, zone)
	s.Peer, s.Local = s.Peer.Unmap().WithZone(""), s.Local.Unmap().WithZone("")
	switch {
	case !s.Peer.IsValid() || s.Peer.IsUnspecified() || s.Peer.IsMulticast():
		bad("peer %q is not the address of a host", s.Peer)
	case s.Local.IsValid() && s.Local.Is4() != s.Peer.Is4():
		bad("local address %s is not of the family of peer %s", s.Local, s.Peer)
	case s.Peer.IsLinkLocalUnicast() && s.Peer.Is6() && s.Interface == "":
		bad("link-local peer %s needs an interface", s.Peer)
	}
	if s.Local.IsValid() && (s.Local.IsUnspecified() || s.Local.IsMulticast()) {
		bad("local address %s is not the address of a host", s.Local)
	}
	if s.Multihop {
		s.MinTTL = cmp.Or(s.MinTTL, DefaultMinTTL)
	} else {
		s.MinTTL = 255
	}
	s.DesiredMinTx = cmp.Or(s.DesiredMinTx, DefaultInterval).Truncate(time.Microsecond)
	s.RequiredMinRx = cmp.Or(s.RequiredMinRx, DefaultInterval).Truncate(time.Microsecond)
	s.DetectMult = cmp.Or(s.DetectMult, DefaultDetectMult)
	for _, i := range []struct {
		name  string
		value time.Duration
	}{{"DesiredMinTx", s.DesiredMinTx}, {"RequiredMinRx", s.RequiredMinRx}} {
		if i.value < MinInterval || i.value > MaxInterval {
			bad("%s is %v, allowed are %v to %v", i.name, i.value, MinInterval, MaxInterval)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return s, fmt.Errorf("BFD session %q: %w", s.Name, err)
	}
	return s, nil
}

// key is what makes a session the one it is on the wire.
type key struct {
	local, peer netip.Addr
	iface       string
	multihop    bool
}

func (s Session) key() key { return key{s.Local, s.Peer, s.Interface, s.Multihop} }

func (s Session) timing() timing { return timing{s.DesiredMinTx, s.RequiredMinRx, s.DetectMult} }

// Status is what is known of a session.
type Status struct {
	Name  string
	State State
	// Diagnostic is why the state last changed for the worse, from our side.
	Diagnostic Diagnostic
	// Since is when the state was entered.
	Since time.Time
	// RemoteState and RemoteDiagnostic are what the peer said last. AdminDown
	// there means that somebody switched BFD off on purpose, which says nothing
	// about the path (RFC 5882, 3.2): who uses the session should not act on it.
	RemoteState      State
	RemoteDiagnostic Diagnostic
	// LocalDiscriminator is never 0; RemoteDiscriminator is 0 while the peer is
	// not heard.
	LocalDiscriminator  uint32
	RemoteDiscriminator uint32
	// TxInterval is the negotiated interval of our packets before jitter, 0 when
	// the peer wants none; DetectionTime is how long the peer may be silent, 0
	// before it was heard.
	TxInterval    time.Duration
	DetectionTime time.Duration
	// Downs counts how often the session has left Up.
	Downs uint64
	// Error says in words why packets cannot be sent, empty when they can.
	Error string
}

// Discard is a reason for which a received packet was not used.
type Discard string

// The reasons, in the order of the checks.
const (
	DiscardTTL               Discard = "ttl"
	DiscardVersion           Discard = "version"
	DiscardLength            Discard = "length"
	DiscardTruncated         Discard = "truncated"
	DiscardDetectMult        Discard = "detect-mult-zero"
	DiscardMultipoint        Discard = "multipoint"
	DiscardMyDiscriminator   Discard = "my-discriminator-zero"
	DiscardYourDiscriminator Discard = "your-discriminator-unknown"
	DiscardState             Discard = "your-discriminator-zero"
	DiscardNoSession         Discard = "no-session"
	DiscardInterface         Discard = "interface"
	DiscardAuth              Discard = "authentication"
	DiscardAdminDown         Discard = "admin-down"
)

// Counters count packets of all sessions since New.
type Counters struct {
	Sent     uint64
	Received uint64 // discarded ones included
	// Discarded are the received packets that were not used, by reason.
	Discarded map[Discard]uint64
	// SendErrors counts packets that the kernel did not take.
	SendErrors uint64
}
