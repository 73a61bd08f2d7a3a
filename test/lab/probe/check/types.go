// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"time"
)

// Protocols of a Target.
const (
	TCP  = "tcp"
	UDP  = "udp"
	ICMP = "icmp"
)

// Reasons why a target did not answer.
const (
	Timeout     = "timeout"     // nothing came back
	Refused     = "refused"     // a reset, or port unreachable
	Unreachable = "unreachable" // a router or this host says so
	TooLarge    = "too large"   // the packet fits no further
	Wrong       = "wrong"       // an answer, but not to what was sent
	Failed      = "failed"      // anything else: the error says what
)

// Target is one exchange to try.
type Target struct {
	Name     string     `json:"name"`
	Protocol string     `json:"proto"`
	Address  netip.Addr `json:"addr"`
	Port     uint16     `json:"port,omitempty"`    // none with icmp
	Size     int        `json:"size,omitempty"`    // bytes of payload; 0 is 64
	Millis   int        `json:"timeout,omitempty"` // milliseconds for all of it; 0 is 3000
	// DontFragment sends UDP and ICMP unfragmented or not at all.
	DontFragment bool `json:"df,omitempty"`
}

// Result is what came of a Target.
type Result struct {
	Name   string         `json:"name"`
	OK     bool           `json:"ok"`
	Millis float64        `json:"rtt,omitempty"`    // milliseconds of the answered exchange
	Tries  int            `json:"tries,omitempty"`  // datagrams sent until one was answered
	Client netip.AddrPort `json:"client,omitzero"`  // our address as the server saw it
	Host   string         `json:"host,omitempty"`   // name of the server
	Reason string         `json:"reason,omitempty"` // of a failure, one of the constants
	Error  string         `json:"error,omitempty"`  // the failure in words
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
	case t.Protocol != TCP && t.Protocol != UDP && t.Protocol != ICMP:
		return fmt.Errorf("target %q: proto %q: want tcp, udp or icmp", t.Name, t.Protocol)
	case !t.Address.IsValid():
		return fmt.Errorf("target %q: no addr", t.Name)
	case t.Protocol != ICMP && t.Port == 0:
		return fmt.Errorf("target %q: no port", t.Name)
	case t.Size < 0 || t.Millis < 0:
		return fmt.Errorf("target %q: size and timeout must not be negative", t.Name)
	}
	return nil
}
