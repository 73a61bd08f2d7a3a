// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/service/naive"
	"github.com/waymark-net/waymark/service/random"
)

// client is one with regard to affinity.
type client struct {
	set  naive.Set
	addr netip.Addr
}

// keeping is what the switch learned of a client.
type keeping struct {
	endpoint netip.AddrPort
	match    flow.Match
	// lapsed says that the endpoint did not serve at some time: whether the client
	// has it when it serves again is not said.
	lapsed bool
}

// checkAffinity begins connections of a client and of another one beside it:
// each keeps its own endpoint, which does not depend on who came before.
func (n *node) checkAffinity(p naive.Packet, want naive.Verdict) error {
	if err := n.checkClient(p, want); err != nil {
		return err
	}
	other, ok := n.another(p, want)
	if !ok {
		return nil
	}
	n.count.beside.Add(1)
	if err := n.checkClient(other, n.cluster.Verdict(other)); err != nil {
		return fmt.Errorf("beside a client: %w", err)
	}
	return n.checkClient(p, want)
}

// checkClient begins connections of a client. While it has no endpoint it may
// get any, and each has the switch learn one thing, of this client only; then it
// has that one.
func (n *node) checkClient(p naive.Packet, want naive.Verdict) error {
	k := client{want.Set, p.Source.Addr()}
	if had := n.kept[k]; had != nil && had.lapsed {
		n.bucket = n.random.IntN(places)
		if _, err := n.begin(n.fresh(p), want); err != nil {
			return err
		}
		if err := n.unlearn(had.match); err != nil {
			return err
		}
		delete(n.kept, k)
	}
	if n.kept[k] == nil {
		if err := n.checkShares(p, want, n.beginAnew); err != nil {
			return err
		}
		n.bucket = n.random.IntN(places)
		c, learned, err := n.beginLearning(n.fresh(p), want)
		if err != nil {
			return err
		}
		n.kept[k] = &keeping{endpoint: c.endpoint.AddrPort, match: learned.Match}
	}
	for range 2 {
		n.count.kept.Add(1)
		n.bucket = n.random.IntN(places)
		c, err := n.begin(n.fresh(p), want)
		if err != nil {
			return err
		}
		if had := n.kept[k].endpoint; had != c.endpoint.AddrPort {
			return fmt.Errorf("%s: goes to %s, and the client's endpoint was %s", p, c.endpoint, had)
		}
		if news := n.learns(); len(news) > 0 {
			return fmt.Errorf("%s: the client has an endpoint, and the switch learns %v", p, news)
		}
	}
	return nil
}

// beginAnew begins a connection of a client that has no endpoint, and has none
// afterwards.
func (n *node) beginAnew(p naive.Packet, want naive.Verdict) (connection, error) {
	if want.Service.Affinity == 0 {
		return n.begin(p, want)
	}
	c, learned, err := n.beginLearning(p, want)
	if err != nil {
		return c, err
	}
	return c, n.unlearn(learned.Match)
}

// beginLearning begins a connection of a client that has no endpoint, and returns
// what the switch learned by it.
func (n *node) beginLearning(p naive.Packet, want naive.Verdict) (connection, openflow.LearnedFlow, error) {
	c, err := n.begin(p, want)
	if err != nil {
		return c, openflow.LearnedFlow{}, err
	}
	news := n.learns()
	if len(news) != 1 {
		return c, openflow.LearnedFlow{}, fmt.Errorf("%s: the switch learns %d things of a new client, not one: %v", p, len(news), news)
	}
	learned := news[0]
	wantTime := want.Service.Affinity
	if wantTime > pipeline.MaxAffinity {
		wantTime = 0 // the agent counts
	}
	if got := time.Duration(learned.IdleTimeout) * time.Second; got != wantTime || learned.HardTimeout != 0 {
		return c, learned, fmt.Errorf("%s: the switch learns for %s without a connection and %d s in all, and the affinity is %s",
			p, got, learned.HardTimeout, want.Service.Affinity)
	}
	a := p.Source.Addr()
	for _, m := range []flow.FieldMatch{flow.EthTypeOf(a), flow.IPSrc(netip.PrefixFrom(a, a.BitLen()))} {
		if got, ok := learned.Match.Get(m.Field); !ok || got.String() != m.String() {
			return c, learned, fmt.Errorf("%s: the switch learns of other clients too: %s, without %s", p, learned.Match, m)
		}
	}
	return c, learned, nil
}

// learns returns what the switch has learned since the last call, or learned in
// another way.
func (n *node) learns() []openflow.LearnedFlow {
	var news []openflow.LearnedFlow
	now := map[string]openflow.LearnedFlow{}
	for _, table := range pipeline.LearnedTables() {
		flows, err := n.sw.LearnedFlows(context.Background(), table)
		if err != nil {
			panic(err) // the fake fails only if it is told to
		}
		for _, f := range flows {
			f.Packets = 0
			key := f.Key().String()
			now[key] = f
			if old, known := n.learned[key]; !known || old.String() != f.String() {
				news = append(news, f)
			}
		}
	}
	n.learned = now
	return news
}

// unlearn has the switch forget one thing that it has learned.
func (n *node) unlearn(m flow.Match) error {
	if err := n.sw.RemoveLearned(context.Background(), pipeline.TableServiceAffinity, []flow.Match{m}); err != nil {
		return err
	}
	n.learns()
	return nil
}

// another returns the packet of another client that may have the same endpoints,
// if there is any: of a neighbour, or of one that is far away.
func (n *node) another(p naive.Packet, want naive.Verdict) (naive.Packet, bool) {
	var from []netip.Addr
	switch p.From {
	case naive.FromPod:
		from = slices.Clone(n.cluster.Pods)
	case naive.FromNode:
		from = slices.Concat(random.NodeAddrs, random.Gateways)
	default:
		bytes := p.Source.Addr().AsSlice()
		for _, bit := range []int{len(bytes)*8 - 1, len(bytes)*8 - 7, 20, 12, 6} {
			changed := slices.Clone(bytes)
			changed[bit/8] ^= 0x80 >> (bit % 8)
			a, _ := netip.AddrFromSlice(changed)
			from = append(from, a)
		}
		from = slices.DeleteFunc(from, func(a netip.Addr) bool {
			return !a.IsGlobalUnicast() || n.behind(a) != naive.FromOutside ||
				slices.Contains(random.NodeAddrs, a) || slices.Contains(random.Gateways, a) || slices.Contains(serviceAddrs, a)
		})
	}
	n.random.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
	for _, a := range from {
		q := p
		q.Source = netip.AddrPortFrom(a, p.Source.Port())
		if a.Is4() != p.Source.Addr().Is4() || a == p.Source.Addr() || a == p.Destination.Addr() {
			continue
		}
		if v := n.cluster.Verdict(q); v.Outcome == naive.Balanced && v.Set == want.Set {
			return q, true
		}
	}
	return naive.Packet{}, false
}

// forgetAffinity: endpoints that do not serve any more are nobody's, and who
// gets another is not said.
func (n *node) forgetAffinity() {
	for k, had := range n.kept {
		s := n.cluster.Services[k.set.Key]
		stays := false
		for _, p := range s.Ports {
			if p.Protocol != k.set.Protocol || p.Port != k.set.Port || s.Affinity == 0 {
				continue
			}
			endpoints, _ := n.cluster.ClusterEndpoints(s, p, k.set.IPv4)
			if k.set.Local {
				endpoints, _ = n.cluster.LocalEndpoints(s, p, k.set.IPv4)
			}
			stays = slices.Contains(endpoints, had.endpoint)
			break // further ones of that number are invalid
		}
		had.lapsed = had.lapsed || !stays
	}
}
