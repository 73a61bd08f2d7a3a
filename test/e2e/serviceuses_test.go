// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/matrix"
	probe "github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/report"
)

// largeDatagram is the size in bytes of a payload that no packet of the labs can
// hold but those with jumbo frames, and whose last piece is not so small that the
// userspace switch drops it (see docs/guide/troubleshoot.md).
const largeDatagram = 2000

// exchange is one try of a use.
type exchange struct {
	use    string
	target probe.Target
	want   verdict
	// host is the Pod that must answer; seen are the addresses under which it may
	// see the client, any if there are none.
	host string
	seen []netip.Addr
}

// judge complains of a result that is not as wanted.
func (e exchange) judge(r probe.Result) error {
	what := familyName(e.target.Address) + " " + e.target.Protocol
	switch {
	case e.want == isAnswered && !r.OK, e.want == isRefused && r.Reason != probe.Refused, e.want == isDropped && r.Reason != probe.Timeout:
		return fmt.Errorf("%s: %q by %q, want it %s: %s", what, r.Reason, r.Host, e.want, r.Error)
	case e.want == isRefused && r.After > atOnce:
		return fmt.Errorf("%s: refused after %.0f ms", what, r.After)
	case e.want == isAnswered && r.Host != e.host:
		return fmt.Errorf("%s: answered by %s, want %s", what, r.Host, e.host)
	case e.want == isAnswered && len(e.seen) > 0 && !slices.Contains(e.seen, r.Client.Addr()):
		return fmt.Errorf("%s: seen as %s, want one of %s", what, r.Client.Addr(), e.seen)
	}
	return nil
}

// usesOf are the exchanges that one end tries.
func usesOf(t *testing.T, s *services, all map[string]placed, from string) []exchange {
	t.Helper()
	var out []exchange
	for _, u := range serviceUses {
		if !slices.Contains(u.from, from) {
			continue
		}
		for _, at := range u.at {
			addrs := all[u.service].at[at]
			if len(addrs) == 0 {
				t.Fatalf("the table names no address %q of Service %s", at, u.service)
			}
			for _, a := range addrs {
				e := exchange{use: u.service + " at " + at, want: u.want, host: s.pods["b@n1"].Name}
				e.seen = seenAs(s, from, at, a.Addr(), u.keeps)
				for _, protocol := range []string{probe.TCP, probe.UDP} {
					e.target = probe.Target{Name: e.use, Protocol: protocol, Address: a.Addr(), Port: a.Port(), Millis: denyMillis}
					if u.want == isAnswered {
						e.target.Millis = 0
					}
					out = append(out, e)
				}
				if u.want == isAnswered && at == "ClusterIP" && from != "b@n1" {
					// The last one, over UDP, in two pieces.
					e.use += ", large datagrams"
					e.target.Size = largeDatagram
					out = append(out, e)
				}
			}
		}
	}
	return out
}

// seenAs are the addresses under which an endpoint may see a client: its own,
// that of the Services of a node on the way unless it must be kept, and for a
// node also that of its gateway.
func seenAs(s *services, from, at string, family netip.Addr, keeps bool) []netip.Addr {
	if from == "b@n1" {
		return nil // itself: the network may show it anything but its own address
	}
	end := s.ends[from]
	seen := []netip.Addr{sameFamily(end, family)}
	if keeps {
		return seen
	}
	ways := []string{end.Node}
	for _, node := range []string{"n1", "n2"} {
		if from == topology.Client || strings.HasSuffix(at, node) {
			ways = append(ways, node)
		}
	}
	for _, node := range ways {
		if node == topology.Client {
			continue
		}
		for _, cidr := range s.podCIDRs[node] {
			if cidr.Addr().Is4() != family.Is4() {
				continue
			}
			gateway := cidr.Addr().Next()
			seen = append(seen, gateway.Next()) // the address of the node's Services
			if end.Kind == matrix.Node && node == end.Node {
				seen = append(seen, gateway)
			}
		}
	}
	return seen
}

// tried are exchanges from one end.
type tried struct {
	from      string
	exchanges []exchange
}

// checkUses tries exchanges from all ends at once, until those of an end are as
// they should be or time is over, and records a row for each use.
func checkUses(t *testing.T, s *services, uses ...tried) {
	t.Helper()
	wrong, errs := make([][]error, len(uses)), make([]error, len(uses))
	var group sync.WaitGroup
	for i, u := range uses {
		group.Go(func() { wrong[i], errs[i] = try(t.Context(), s.ends[u.from], u.exchanges) })
	}
	group.Wait()
	for i, u := range uses {
		if errs[i] != nil {
			t.Errorf("from %s: %v", u.from, errs[i])
			continue
		}
		recordUses(t, u, wrong[i])
	}
}

// try returns what is wrong with each exchange after all, nil if nothing is; err
// says that it could not be tried.
func try(ctx context.Context, from matrix.Endpoint, exchanges []exchange) (wrong []error, err error) {
	var targets []probe.Target
	for _, e := range exchanges {
		targets = append(targets, e.target)
	}
	err = cluster.Until(ctx, enforced, func(ctx context.Context) error {
		results, err := from.Ask(ctx, targets...)
		if err != nil {
			return err
		}
		wrong = nil
		for i, e := range exchanges {
			wrong = append(wrong, e.judge(results[i]))
		}
		return errors.Join(wrong...)
	})
	if wrong != nil {
		return wrong, nil
	}
	return nil, err
}

// recordUses records a row for each use of one end.
func recordUses(t *testing.T, u tried, wrong []error) {
	t.Helper()
	notes := map[string][]string{}
	var order []string
	for i, e := range u.exchanges {
		name := fmt.Sprintf("from %s: %s is %s", u.from, e.use, e.want)
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
		if wrong[i] != nil {
			notes[name] = append(notes[name], wrong[i].Error())
		}
	}
	for _, name := range order {
		note := strings.Join(notes[name], "; ")
		if more := len(notes[name]) - 1; more > 0 {
			note = fmt.Sprintf("%s; and %d more", notes[name][0], more)
		}
		record(t, report.Check(name, note == "", note))
	}
}
