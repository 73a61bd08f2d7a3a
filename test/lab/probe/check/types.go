// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Protocols of a Target.
const (
	TCP  = "tcp"
	UDP  = "udp"
	ICMP = "icmp"
	HTTP = "http" // the page / of probe serve
	DNS  = "dns"
)

// Reasons why a target did not answer.
const (
	Timeout     = "timeout"     // nothing came back
	Refused     = "refused"     // a reset, or port unreachable
	Unreachable = "unreachable" // a router or this host says so
	TooLarge    = "too large"   // the packet fits no further
	NoName      = "no name"     // the name server says that there is none
	Wrong       = "wrong"       // an answer, but not to what was sent
	Failed      = "failed"      // anything else: the error says what
)

// Target is one exchange to try.
type Target struct {
	Name     string `json:"name"`
	Protocol string `json:"proto"`
	// Address is empty for a name that is looked up as the host is configured,
	// by its name servers and in its domains.
	Address netip.Addr `json:"addr,omitzero"`
	Port    uint16     `json:"port,omitempty"` // none with icmp; 0 is 53 with dns
	// Lookup is the name whose addresses are wanted, with dns.
	Lookup string `json:"lookup,omitempty"`
	// From is the port to send from, with udp; 0 is any.
	From   uint16 `json:"from,omitempty"`
	Size   int    `json:"size,omitempty"`    // bytes of payload; 0 is 64
	Millis int    `json:"timeout,omitempty"` // milliseconds for all of it; 0 is 3000
	// DontFragment sends UDP and ICMP unfragmented or not at all.
	DontFragment bool `json:"df,omitempty"`
}

// Result is what came of a Target.
type Result struct {
	Name   string         `json:"name"`
	OK     bool           `json:"ok"`
	Millis float64        `json:"rtt,omitempty"`   // milliseconds of the answered exchange
	Tries  int            `json:"tries,omitempty"` // datagrams sent until one was answered
	Client netip.AddrPort `json:"client,omitzero"` // our address as the server saw it
	Host   string         `json:"host,omitempty"`  // name of the server
	// Addresses are what was found, sorted, with dns.
	Addresses []netip.Addr `json:"addrs,omitempty"`
	After     float64      `json:"after,omitempty"`  // milliseconds until it failed
	Reason    string       `json:"reason,omitempty"` // of a failure, one of the constants
	Error     string       `json:"error,omitempty"`  // the failure in words
}

func (t Target) size() int {
	if t.Size == 0 {
		return 64
	}
	return t.Size
}

func (t Target) timeout() time.Duration {
	if t.Millis == 0 {
		return 3 * time.Second
	}
	return time.Duration(t.Millis) * time.Millisecond
}

// Validate reports what is wrong with a target.
func (t Target) Validate() error {
	switch {
	case !slices.Contains([]string{TCP, UDP, ICMP, HTTP, DNS}, t.Protocol):
		return fmt.Errorf("target %q: proto %q: want tcp, udp, icmp, http or dns", t.Name, t.Protocol)
	case (t.Lookup != "") != (t.Protocol == DNS):
		return fmt.Errorf("target %q: lookup %q with proto %s", t.Name, t.Lookup, t.Protocol)
	case t.From != 0 && t.Protocol != UDP:
		return fmt.Errorf("target %q: from %d with proto %s", t.Name, t.From, t.Protocol)
	case t.Protocol == DNS:
	case !t.Address.IsValid():
		return fmt.Errorf("target %q: no addr", t.Name)
	case t.Protocol != ICMP && t.Port == 0:
		return fmt.Errorf("target %q: no port", t.Name)
	case t.Size < 0 || t.Millis < 0:
		return fmt.Errorf("target %q: size and timeout must not be negative", t.Name)
	}
	return nil
}
