// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/waymark-net/waymark/routing"
)

// Port is the UDP port that probes go to and replies come from. It is not
// assigned to anybody, and is neither in the range of NodePorts nor in the one
// from which Linux takes the ports of clients.
const Port = 21793

// Defaults of Params.
const (
	DefaultInterval = 200 * time.Millisecond
	DefaultFlows    = 8
	DefaultBudget   = 2000
	DefaultHold     = 5 * time.Second
	DefaultMaxHold  = 5 * time.Minute
	DefaultDecay    = 5 * time.Minute
)

// maxFlows is what the header and a reasonable number of sockets allow.
const maxFlows = 64

// Params are the parameters of New. What is zero has its default.
type Params struct {
	// OnVerdicts is told all verdicts when a target comes or goes, when one begins
	// or ceases to work, and when the class of its reason changes. All calls come
	// from one goroutine. It may take its time: what changes meanwhile is told in
	// one call afterwards. Optional.
	OnVerdicts func([]Verdict)
	// Interval is how often each flow of a target is probed, with packets of both
	// kinds in turn. Probes come up to a fifth earlier, at random.
	Interval time.Duration
	// Flows is how many source ports a target is probed from. Fabrics choose among
	// equal paths by ports, and a path works only if every flow does.
	Flows int
	// Budget is how many probe packets a second the node sends, requests and
	// replies together, when the nodes have about as many targets as we have. The
	// interval is stretched to keep to it. Replies alone never exceed it.
	Budget int
	// Hold is how long a path that failed must work before it is said to, twice as
	// long after each further failure up to MaxHold. One failure is forgotten for
	// each Decay of working.
	Hold, MaxHold, Decay time.Duration
}

func (p Params) defaults() Params {
	p.Interval = cmp.Or(p.Interval, DefaultInterval)
	p.Flows = min(cmp.Or(p.Flows, DefaultFlows), maxFlows)
	p.Budget = cmp.Or(p.Budget, DefaultBudget)
	p.Hold = cmp.Or(p.Hold, DefaultHold)
	p.MaxHold = max(cmp.Or(p.MaxHold, DefaultMaxHold), p.Hold)
	p.Decay = cmp.Or(p.Decay, DefaultDecay)
	return p
}

// Config is all that is wanted of an engine.
type Config struct {
	// Local are our probe addresses, at most one a family. They may come to an
	// interface later; until then nothing is sent.
	Local []netip.Addr
	// Targets are probed.
	Targets []Target
	// Answer are the probe addresses that are answered.
	Answer []netip.Addr
}

// Target is a remote node's probe address of a family.
type Target struct {
	Node   string
	Family routing.Family
	// Address is the remote probe address, of the family.
	Address netip.Addr
	// Size is the length in bytes of the largest IP packet that Pods send on the
	// path, IP header included.
	Size int
	// Route says by which route and next hops the address is reached, in words of
	// the caller's choice. Another route has its proof to bring: a target that
	// works goes on working until probes tell otherwise, one that failed has to
	// hold again. Empty: there is no route now. The target is not probed then, does
	// not work, and when it worked that was a failure like others, so that a route
	// that comes and goes is damped too. A target that is left out is forgotten.
	Route string
	// AssumeWorks has a new target begin as working: the path was in use before
	// the engine started.
	AssumeWorks bool
}

type key struct {
	node   string
	family routing.Family
}

func (t Target) key() key { return key{t.Node, t.Family} }

// headers is the length of IP and UDP header.
func headers(f routing.Family) int {
	if f == routing.IPv6 {
		return 40 + 8
	}
	return 20 + 8
}

// normalize returns the good part of a configuration, and what is wrong with the
// rest.
func (c Config) normalize() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	var out Config
	local := map[routing.Family]bool{}
	for _, a := range c.Local {
		a = a.Unmap().WithZone("")
		switch f := routing.FamilyOf(a); {
		case !host(a):
			bad("probe address %q is not the address of a host", a)
		case local[f]:
			bad("probe address %s is the second one of %s", a, f)
		default:
			local[f] = true
			out.Local = append(out.Local, a)
		}
	}
	for _, a := range c.Answer {
		out.Answer = append(out.Answer, a.Unmap().WithZone(""))
	}
	keys, addresses := map[key]bool{}, map[netip.Addr]bool{}
	for _, t := range c.Targets {
		t.Address = t.Address.Unmap().WithZone("")
		least := headers(t.Family) + headerLen
		switch {
		case !host(t.Address) || routing.FamilyOf(t.Address) != t.Family:
			bad("probe of %s: %q is not the %s address of a host", t.Node, t.Address, t.Family)
		case !local[t.Family]:
			bad("probe of %s: there is no %s address to probe from", t.Node, t.Family)
		case t.Size < least || t.Size > math.MaxUint16:
			bad("probe of %s: packets of %d bytes, allowed are %d to %d", t.Node, t.Size, least, math.MaxUint16)
		case keys[t.key()]:
			bad("probe of %s: there are two targets of %s", t.Node, t.Family)
		case addresses[t.Address] || slices.Contains(out.Local, t.Address):
			bad("probe of %s: address %s is taken", t.Node, t.Address)
		default:
			keys[t.key()], addresses[t.Address] = true, true
			out.Targets = append(out.Targets, t)
		}
	}
	return out, errors.Join(errs...)
}

func host(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}

// Class is the kind of a verdict's reason.
type Class string

// The classes.
const (
	ClassAnswered  Class = "answered"   // every flow, both sizes: it works
	ClassAssumed   Class = "assumed"    // it worked before; not proven since
	ClassUnproven  Class = "unproven"   // not answered in full yet
	ClassNoRoute   Class = "no-route"   // there is nothing to probe
	ClassSilent    Class = "no-answer"  // on any flow
	ClassNoAgent   Class = "no-agent"   // the node answers, nobody listens there: Works is as it was for a minute
	ClassFullSize  Class = "full-size"  // full-size packets alone are not answered
	ClassSomeFlows Class = "some-flows" // small ones are not answered either, on some flows
	ClassHold      Class = "hold"       // answered again, but not for long enough
)

// Verdict says whether the path to a target works.
type Verdict struct {
	Node   string
	Family routing.Family
	Works  bool
	// Since is when Works became what it is.
	Since time.Time
	// Class and Reason, in words, say why.
	Class  Class
	Reason string
	// RTT is the smoothed round-trip time, 0: not known.
	RTT time.Duration
	// Interval is how often each flow is probed now.
	Interval time.Duration
	// Failures is how many failures the path has on its account. They are
	// forgotten with time.
	Failures int
}

// Discard is a reason for which a received packet was not used.
type Discard string

// The reasons.
const (
	DiscardLength    Discard = "length"
	DiscardMagic     Discard = "magic"
	DiscardVersion   Discard = "version"
	DiscardType      Discard = "type"
	DiscardSource    Discard = "source"     // not an address that is answered or probed
	DiscardNonce     Discard = "nonce"      // a reply to an engine before us, or forged
	DiscardSequence  Discard = "sequence"   // a reply to nothing, or a second one
	DiscardRateLimit Discard = "rate-limit" // more requests than are answered
)

// Counters count packets since New.
type Counters struct {
	Sent       uint64 // requests
	SendErrors uint64 // requests and replies that the kernel did not take
	Received   uint64 // discarded ones and errors included
	Replies    uint64 // received ones that were good
	Refused    uint64 // requests for which nobody listened, so the other node's kernel says
	Answered   uint64 // requests of others
	Discarded  map[Discard]uint64
}
