// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"crypto/sha256"
	"net/netip"
	"time"
)

// SpeakerConfig is what the node's BGP speaker is to be. The zero value is a
// speaker that does not run.
type SpeakerConfig struct {
	// ASN of the node, 1 to 4294967295.
	ASN uint32
	// RouterID is the BGP identifier, an IPv4 address that is unique in the AS;
	// see RouterIDOf.
	RouterID netip.Addr
	// ListenPort is the TCP port, 0: 179, -1: do not listen.
	ListenPort int
	// ListenAddresses are the addresses to listen on, none: all.
	ListenAddresses []netip.Addr
	GracefulRestart GracefulRestart
	// MaximumPaths bounds the equal-cost next hops of a learned route, 0: 1.
	MaximumPaths int
}

// GracefulRestart is RFC 4724 with the notifications of RFC 8538.
type GracefulRestart struct {
	Enabled bool
	// RestartTime is how long the peers are asked to keep our routes after the
	// session broke, in whole seconds, at most 4095 s. 0: 120 s.
	RestartTime time.Duration
}

// Peer is one BGP neighbour of the node.
type Peer struct {
	// Name identifies the peer in statuses and in Advertisement.Peers.
	Name string
	// Node is the name of the node of the cluster that the peer is, empty: a router.
	Node string
	// DefaultGateway says that Address is to be that of the node's default gateway.
	DefaultGateway bool
	// Passive leaves it to the peer to connect.
	Passive bool
	// Reflection says what of the peer's routes is passed on; none by itself.
	Reflection Reflection
	Address    netip.Addr
	// Port of the peer, 0: 179.
	Port int
	ASN  uint32
	// LocalASN replaces the node's ASN towards this peer, 0: the node's.
	LocalASN uint32
	// Password is the TCP MD5 key (RFC 2385), empty: none. Never logged.
	Password string
	// SourceAddress is the local end of the session, zero: the kernel's choice.
	SourceAddress netip.Addr
	// MultihopTTL allows an eBGP peer that is not on-link, 0: on-link only.
	MultihopTTL uint8
	// GTSMHops is how many hops away the peer may be under the generalized TTL
	// security mechanism (RFC 5082), 1: on-link, 0: GTSM off. Excludes MultihopTTL.
	GTSMHops uint8
	Timers   Timers
	// GracefulRestart, nil: the speaker's.
	GracefulRestart *GracefulRestart
	// Families carried by the session, none: both.
	Families []Family
	Import   ImportRule
	Export   ExportRule
	// ExtendedNextHop sends IPv4 prefixes with the node's IPv6 address as next
	// hop (RFC 8950) although the node has an IPv4 address. Without an IPv4
	// address that happens anyway. Only for peers with an IPv6 address.
	ExtendedNextHop bool
	// BFD watches the path to the peer, nil: only the session's hold time does.
	BFD *BFD
}

// BFD is how the path to a peer is watched (RFC 5880, RFC 5882). Its loss costs
// the peer's routes and the session at once.
type BFD struct {
	// MinTx is the interval that we want to send at, MinRx the least that we ask
	// the peer to keep; 10 ms to 1 min, 0: 300 ms.
	MinTx, MinRx time.Duration
	// Multiplier is how many of our packets the peer misses before it says that
	// the path is down, 0: 3.
	Multiplier int
	// Multihop is RFC 5883: the peer may be some hops away, see BFDMultihop.
	Multihop bool
}

// BFDMultihop says whether BFD with a peer is that over multiple hops. Both ends
// must see it alike: they use other ports. links are the node's; with none, it
// is not known what is on-link. A peer of another AS is on-link unless it is said
// to be further away; with GTSM it is treated as if, like FRR does.
func BFDMultihop(p Peer, localASN uint32, links []Link) bool {
	if p.LocalASN != 0 {
		localASN = p.LocalASN
	}
	external := p.ASN != localASN
	switch {
	case p.MultihopTTL != 0 || p.GTSMHops > 1:
		return true
	case external:
		return p.GTSMHops != 0
	case p.GTSMHops == 1 || len(links) == 0 || p.Address.IsLinkLocalUnicast():
		return false
	}
	for _, l := range links {
		for _, q := range l.Prefixes {
			if q.Contains(p.Address.Unmap()) {
				return false
			}
		}
	}
	return true
}

// Reflection is what route reflection (RFC 4456) does with a peer of our AS.
type Reflection struct {
	// Client says that we are the route reflector of the peer.
	Client bool
	// ClusterID is that of clients, zero: the router ID.
	ClusterID netip.Addr
	// PassOn says that, as long as any peer is a client, routes inside the Pod
	// CIDRs of other nodes are passed on from this peer and to it.
	PassOn bool
}

// Timers of a session; zero values are the defaults.
type Timers struct {
	Hold         time.Duration // 90 s
	Keepalive    time.Duration // a third of Hold
	ConnectRetry time.Duration // 10 s
}

// Advertisement is one prefix that the node announces. Of several for the same
// prefix and peer the first counts.
type Advertisement struct {
	Prefix netip.Prefix
	// Aggregate says that only a part of Prefix is the node's own, and SummaryOnly
	// that its peers are not told of that part; see Summarize.
	Aggregate, SummaryOnly bool
	// NextHops are the node's addresses, at most one a family. An IPv6 prefix
	// needs an IPv6 address.
	NextHops []netip.Addr
	// Peers are the names of the peers that are told, none: all.
	Peers []string
	// Attributes are what every peer is told whose ExportRule says nothing else.
	Attributes
}

// SessionState is the state of a BGP session (RFC 4271, 8.2.2).
type SessionState string

// The session states.
const (
	SessionIdle        SessionState = "Idle"
	SessionConnect     SessionState = "Connect"
	SessionActive      SessionState = "Active"
	SessionOpenSent    SessionState = "OpenSent"
	SessionOpenConfirm SessionState = "OpenConfirm"
	SessionEstablished SessionState = "Established"
)

// SessionStatus is what is known of the session with one peer.
type SessionStatus struct {
	Peer    string
	Address netip.Addr
	ASN     uint32
	State   SessionState
	// Since is when the session came up, or when it was last up or first tried.
	Since time.Time
	// Families are the configured families, in listing order.
	Families []FamilyStatus
	// LastError says in words why the session is not up or last went down;
	// empty when it never failed.
	LastError   string
	LastErrorAt time.Time
	// Warnings say in words what is wrong with what an established peer sends.
	Warnings []string
	// BFD of the peer, nil: none is configured, or the session was never up.
	BFD *BFDStatus
}

// BFDUp is the state of BFD while both ends hear each other.
const BFDUp = "Up"

// BFDStatus is what BFD says of the path to a peer.
type BFDStatus struct {
	// State and RemoteState are AdminDown, Down, Init or Up; the remote one is
	// what the peer said last.
	State, RemoteState string
	// Diagnostic says in words why the state last became worse, empty: it did not.
	Diagnostic string
	// Since is when the state was entered.
	Since time.Time
	// Interval is the negotiated one of our packets, 0: none are sent.
	// DetectionTime is how long the peer may be silent, 0: it was never heard.
	Interval, DetectionTime time.Duration
	// Downs is how often the path was lost since BFD began.
	Downs uint64
	// Suspended says that the peer's routes are not used, because the path was
	// lost and has not come back.
	Suspended bool
	// Error says in words why packets cannot be sent or received, empty: they can.
	Error string
}

// FamilyStatus counts the prefixes of one family of a session.
type FamilyStatus struct {
	Family Family
	// Negotiated is false when the peer does not speak the family.
	Negotiated bool
	Received   int
	Accepted   int
	Advertised int
	// Filtered are the received prefixes that are not used now, by reason.
	Filtered map[FilterReason]int
}

// RouterIDOf returns the BGP identifier of a node: its IPv4 address, or for a
// node without one, four bytes of a hash of its name (RFC 6286 asks only for
// uniqueness within the AS).
func RouterIDOf(n Node) netip.Addr {
	if a := n.Address(IPv4); a.IsValid() {
		return a
	}
	sum := sha256.Sum256([]byte(n.Name))
	// 1.0.0.0 to 126.255.255.255: a plausible unicast address, never zero.
	return netip.AddrFrom4([4]byte{1 + sum[0]%126, sum[1], sum[2], sum[3]})
}

// BGPConfig is all that a node's BGP speaker is told. Without a peer the
// speaker does not run.
type BGPConfig struct {
	Speaker SpeakerConfig
	Peers   []Peer
	// Incomplete says that Peers leaves out some whose configuration could not be
	// read yet. They may have announced routes to an earlier run of the speaker,
	// so that it is not converged without them before its restart time is over.
	Incomplete     bool
	Advertisements []Advertisement
	// Scope is what the import filter of all peers knows.
	Scope ImportScope
}
