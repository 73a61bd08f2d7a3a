// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"

	"github.com/waymark-net/waymark/test/lab/probe/check"
)

// Kind is what an Endpoint is.
type Kind string

// Kinds of endpoints.
const (
	Pod    Kind = "pod"
	Node   Kind = "node"
	Client Kind = "client" // outside of the cluster
)

// Endpoint is a place that is asked and, but for a client, asks. A `probe serve`
// answers at its addresses.
type Endpoint struct {
	Kind      Kind
	Name      string // unique; as people call it
	Node      string // where a Pod runs; a node's own name
	Rack      string
	Addresses []netip.Addr // one a family
	// Check runs `probe check` there with these bytes as standard input and
	// returns its standard output. A client needs none.
	Check func(ctx context.Context, targets []byte) ([]byte, error)
}

// Relation is how far apart two endpoints are.
type Relation string

// Relations.
const (
	SameNode  Relation = "same node"
	SameRack  Relation = "same rack"
	CrossRack Relation = "cross rack"
	Outside   Relation = "outside"
)

// Pair is a source and a destination in one family.
type Pair struct {
	From, To Endpoint
	Relation Relation
	Source   netip.Addr // of the source in the family
	Target   netip.Addr
}

// Family is 4 or 6.
func (p Pair) Family() int {
	if p.Target.Is4() {
		return 4
	}
	return 6
}

// Pairs lists what a matrix checks, in the order of the endpoints: every Pod to
// all others, every node to the Pods. Only families that both have count.
func Pairs(endpoints []Endpoint) []Pair {
	var pairs []Pair
	for _, from := range endpoints {
		for _, to := range endpoints {
			if from.Name == to.Name || !(from.Kind == Pod || from.Kind == Node && to.Kind == Pod) {
				continue
			}
			for _, target := range to.Addresses {
				for _, source := range from.Addresses {
					if source.Is4() == target.Is4() {
						pairs = append(pairs, Pair{
							From: from, To: to, Relation: relation(from, to), Source: source, Target: target,
						})
					}
				}
			}
		}
	}
	return pairs
}

func relation(from, to Endpoint) Relation {
	switch {
	case to.Kind == Client:
		return Outside
	case from.Node == to.Node:
		return SameNode
	case from.Rack == to.Rack:
		return SameRack
	}
	return CrossRack
}

// Params say what Run checks.
type Params struct {
	Endpoints []Endpoint
	Protocols []string // of package check; none is all three
	Port      uint16   // of the echo server; 0 is 7000
	Millis    int      // limit of one exchange; 0 is the probe's
	Size      int      // bytes of payload; 0 is the probe's
	Parallel  int      // sources asked at once; 0 is 4
}

// Exchange is one cell of the matrix in one family and protocol.
type Exchange struct {
	Pair
	Protocol string
	Result   check.Result
}

// Result is what Run found, in the order of [Pairs].
type Result struct {
	Exchanges []Exchange
}

// Run asks every source once. A source that cannot be asked fails all of its
// exchanges.
func Run(ctx context.Context, params Params) Result {
	if len(params.Protocols) == 0 {
		params.Protocols = []string{check.TCP, check.UDP, check.ICMP}
	}
	if params.Port == 0 {
		params.Port = 7000
	}
	if params.Parallel == 0 {
		params.Parallel = 4
	}
	var exchanges []Exchange
	of := map[string][]int{} // exchanges by name of their source
	for _, pair := range Pairs(params.Endpoints) {
		for _, protocol := range params.Protocols {
			of[pair.From.Name] = append(of[pair.From.Name], len(exchanges))
			exchanges = append(exchanges, Exchange{Pair: pair, Protocol: protocol})
		}
	}
	slots := make(chan struct{}, params.Parallel)
	var group sync.WaitGroup
	for _, endpoint := range params.Endpoints {
		own := of[endpoint.Name]
		if len(own) == 0 {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			ask(ctx, params, endpoint, exchanges, own) // no other goroutine writes these
		})
	}
	group.Wait()
	return Result{Exchanges: exchanges}
}

// ask runs the exchanges of one source.
func ask(ctx context.Context, params Params, source Endpoint, exchanges []Exchange, own []int) {
	targets := make([]check.Target, len(own))
	for i, at := range own {
		exchange := exchanges[at]
		targets[i] = check.Target{
			Name:     exchange.To.Name,
			Protocol: exchange.Protocol,
			Address:  exchange.Target,
			Size:     params.Size,
			Millis:   params.Millis,
		}
		if exchange.Protocol != check.ICMP {
			targets[i].Port = params.Port
		}
	}
	results, err := source.Ask(ctx, targets...)
	for i, at := range own {
		if err != nil {
			exchanges[at].Result = check.Result{Name: exchanges[at].To.Name, Reason: check.Failed, Error: err.Error()}
			continue
		}
		exchanges[at].Result = judge(exchanges[at].Pair, results[i])
	}
}

// Ask tries targets from an endpoint and returns the results in their order.
func (e Endpoint) Ask(ctx context.Context, targets ...check.Target) ([]check.Result, error) {
	if e.Check == nil {
		return nil, fmt.Errorf("%s cannot be asked", e.Name)
	}
	in, err := json.Marshal(targets)
	if err != nil {
		return nil, err
	}
	out, err := e.Check(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("probe check in %s: %w", e.Name, err)
	}
	var results []check.Result
	if err := json.Unmarshal(out, &results); err != nil {
		return nil, fmt.Errorf("probe check in %s: %.200q: %w", e.Name, out, err)
	}
	if len(results) != len(targets) {
		return nil, fmt.Errorf("probe check in %s: %d results for %d targets", e.Name, len(results), len(targets))
	}
	return results, nil
}

// judge fails an exchange within the cluster whose destination saw the Pod under
// another address than its own: Kubernetes' network model forbids translation
// there.
func judge(pair Pair, result check.Result) check.Result {
	if !result.OK || pair.From.Kind != Pod || pair.To.Kind == Client || !result.Client.IsValid() {
		return result
	}
	if seen := result.Client.Addr(); seen != pair.Source {
		result.OK, result.Reason = false, check.Wrong
		result.Error = fmt.Sprintf("seen as %s instead of %s", seen, pair.Source)
	}
	return result
}
