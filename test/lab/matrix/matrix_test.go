// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testgolden"
	"github.com/waymark-net/waymark/test/lab/probe/check"
)

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// answers makes a Check that answers everything but what broken names, as
// destination and protocol.
func answers(source []netip.Addr, broken map[string]string) func(context.Context, []byte) ([]byte, error) {
	return func(_ context.Context, in []byte) ([]byte, error) {
		var targets []check.Target
		if err := json.Unmarshal(in, &targets); err != nil {
			return nil, err
		}
		results := make([]check.Result, len(targets))
		for i, target := range targets {
			results[i] = check.Result{Name: target.Name, OK: true, Millis: 0.5}
			for _, own := range source {
				if target.Protocol != check.ICMP && own.Is4() == target.Address.Is4() {
					results[i].Client = netip.AddrPortFrom(own, 4000)
				}
			}
			if reason := broken[target.Address.String()+" "+target.Protocol]; reason != "" {
				results[i] = check.Result{Name: target.Name, Reason: reason, Error: "it does not answer"}
			}
		}
		return json.Marshal(results)
	}
}

// cluster has Pods on two nodes of rack A and one of rack B, nodes n1 and n3,
// and a client. The Pod on n3 has no IPv6.
func cluster() []Endpoint {
	p1, p2, p3 := addrs("10.10.1.2", "fd10::1:2"), addrs("10.10.2.2", "fd10::2:2"), addrs("10.10.3.2")
	return []Endpoint{
		{Kind: Pod, Name: "p1", Node: "n1", Rack: "A", Addresses: p1, Check: answers(p1, nil)},
		{Kind: Pod, Name: "p2", Node: "n2", Rack: "A", Addresses: p2, Check: answers(p2, map[string]string{
			"fd10::1:2 udp": check.Timeout,
		})},
		{Kind: Pod, Name: "p3", Node: "n3", Rack: "B", Addresses: p3,
			Check: answers(addrs("10.0.3.3"), nil)}, // its node translates it
		{Kind: Node, Name: "n1", Node: "n1", Rack: "A", Addresses: addrs("10.0.1.1", "fd00::1"), Check: answers(nil, nil)},
		{Kind: Node, Name: "n3", Node: "n3", Rack: "B", Addresses: addrs("10.0.3.3", "fd00::3"),
			Check: func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no such host") }},
		{Kind: Client, Name: "client", Addresses: addrs("192.0.2.9", "2001:db8::9")},
	}
}

func TestPairs(t *testing.T) {
	var got []string
	for _, pair := range Pairs(cluster()) {
		got = append(got, pair.From.Name+" "+pair.To.Name+" "+pair.Target.String()+" "+string(pair.Relation))
	}
	want := []string{
		"p1 p2 10.10.2.2 same rack", "p1 p2 fd10::2:2 same rack", "p1 p3 10.10.3.2 cross rack",
		"p1 n1 10.0.1.1 same node", "p1 n1 fd00::1 same node", "p1 n3 10.0.3.3 cross rack", "p1 n3 fd00::3 cross rack",
		"p1 client 192.0.2.9 outside", "p1 client 2001:db8::9 outside",
		"p2 p1 10.10.1.2 same rack", "p2 p1 fd10::1:2 same rack", "p2 p3 10.10.3.2 cross rack",
		"p2 n1 10.0.1.1 same rack", "p2 n1 fd00::1 same rack", "p2 n3 10.0.3.3 cross rack", "p2 n3 fd00::3 cross rack",
		"p2 client 192.0.2.9 outside", "p2 client 2001:db8::9 outside",
		"p3 p1 10.10.1.2 cross rack", "p3 p2 10.10.2.2 cross rack",
		"p3 n1 10.0.1.1 cross rack", "p3 n3 10.0.3.3 same node", "p3 client 192.0.2.9 outside",
		"n1 p1 10.10.1.2 same node", "n1 p1 fd10::1:2 same node",
		"n1 p2 10.10.2.2 same rack", "n1 p2 fd10::2:2 same rack", "n1 p3 10.10.3.2 cross rack",
		"n3 p1 10.10.1.2 cross rack", "n3 p1 fd10::1:2 cross rack",
		"n3 p2 10.10.2.2 cross rack", "n3 p2 fd10::2:2 cross rack", "n3 p3 10.10.3.2 same node",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestGrid(t *testing.T) {
	testgolden.Compare(t, t.Name(), Run(context.Background(), Params{Endpoints: cluster()}).Grid())
}

func TestRows(t *testing.T) {
	rows := Run(context.Background(), Params{Endpoints: cluster(), Protocols: []string{check.TCP, check.UDP}}).Rows()
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	testgolden.Compare(t, t.Name(), string(text)+"\n")
}

func TestWrongAnswers(t *testing.T) {
	for name, out := range map[string]string{"no JSON": "x", "too few": "[]"} {
		t.Run(name, func(t *testing.T) {
			endpoints := cluster()[:2]
			for i := range endpoints {
				endpoints[i].Check = func(context.Context, []byte) ([]byte, error) { return []byte(out), nil }
			}
			result := Run(context.Background(), Params{Endpoints: endpoints})
			if got := len(result.Failures()); got != len(result.Exchanges) || got == 0 {
				t.Errorf("%d of %d failed", got, len(result.Exchanges))
			}
		})
	}
}
