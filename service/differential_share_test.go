// SPDX-License-Identifier: Apache-2.0

package service_test

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/waymark-net/waymark/service"
	"github.com/waymark-net/waymark/service/naive"
	"github.com/waymark-net/waymark/service/random"
)

const (
	// mostPorts is how many ports of clients are tried for a bucket. No set of
	// endpoints here has more groups.
	mostPorts = 32
	// places is into how many parts a group divides the connections.
	places = 256
)

// checkShares begins connections, by begin, for every bucket of every group that
// a client may meet: each endpoint gets the same share of them.
func (n *node) checkShares(p naive.Packet, want naive.Verdict, begin func(naive.Packet, naive.Verdict) (connection, error)) error {
	// The client's port chooses among groups, its lowest bit aside. Ports that
	// follow each other find each group equally often.
	ports := 1
	for ports*8 < len(want.Endpoints) && ports < mostPorts {
		ports *= 2
	}
	share, groups := map[netip.AddrPort]float64{}, map[uint32]bool{}
	n.bucket = 0
	for more := true; more; n.bucket++ {
		more = false
		for range ports {
			p = n.fresh(p)
			c, err := begin(p, want)
			if err != nil {
				return err
			}
			if n.bucket >= len(n.group.Buckets) {
				continue // another group has more
			}
			more = more || n.bucket+1 < len(n.group.Buckets)
			total := 0
			for _, b := range n.group.Buckets {
				total += int(b.Weight)
			}
			share[c.endpoint.AddrPort] += float64(n.group.Buckets[n.bucket].Weight) / float64(total*ports)
			groups[n.group.ID] = true
		}
	}
	if len(groups) > 1 {
		n.count.split.Add(1)
	}
	// Places cannot be divided: an endpoint may have one of all of them more or
	// less than another.
	place, mean := 1/float64(places*len(groups)), 1/float64(len(want.Endpoints))
	for _, e := range want.Endpoints {
		if off := share[e.AddrPort] - mean; share[e.AddrPort] == 0 || math.Abs(off) > place {
			return fmt.Errorf("%s: the share of %s of connections is not even: %.5f, wants %.5f (%d groups, %s), of %v",
				p, e, share[e.AddrPort], mean, len(groups), want.Why, want.Endpoints)
		}
	}
	return nil
}

// TestDifferentialMany is like TestDifferential with as many endpoints as random
// cases do not have: more than a group can hold, and more than fit one message.
func TestDifferentialMany(t *testing.T) {
	four, six := netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00:96::1")
	for _, tc := range []struct {
		vip, first netip.Addr
		count      int
		affinity   time.Duration
	}{
		{four, netip.MustParseAddr("10.10.3.1"), 64, time.Minute},
		{six, netip.MustParseAddr("fd10:0:0:3::1"), 65, 0},
		{four, netip.MustParseAddr("10.10.3.1"), 258, 0},
		{six, netip.MustParseAddr("fd10:0:0:3::1"), 258, time.Minute},
	} {
		if tc.count > mostEndpoints {
			continue
		}
		t.Run(fmt.Sprintf("%d endpoints/%s/affinity %s", tc.count, tc.vip, tc.affinity), func(t *testing.T) {
			n, err := newNode(1, &tally{})
			if err != nil {
				t.Fatal(err)
			}
			s := manyEndpoints(tc.vip, tc.first, tc.count)
			s.Affinity = tc.affinity
			p := naive.Packet{From: naive.FromPod, Protocol: service.TCP, Destination: netip.AddrPortFrom(tc.vip, 80), Source: podLike(tc.vip)}
			step := func() {
				t.Helper()
				if err := n.step(random.Step{{Set: &s}}); err != nil {
					t.Fatal(err)
				}
				if err := n.checkShares(p, n.cluster.Verdict(p), n.beginAnew); err != nil {
					t.Fatal(err)
				}
			}
			step()
			// Some go; of the rest some are in a second slice.
			rest := s.Ports[0].Endpoints[3:]
			s.Ports = []service.Port{{Protocol: service.TCP, Port: 80, Endpoints: slices.Concat(rest, rest[:len(rest)/3])}}
			step()
		})
	}
}

// manyEndpoints is a Service with so many endpoints, from an address on.
func manyEndpoints(vip, first netip.Addr, count int) service.Service {
	port := service.Port{Protocol: service.TCP, Port: 80}
	for at := first; len(port.Endpoints) < count; at = at.Next() {
		port.Endpoints = append(port.Endpoints, service.Endpoint{AddrPort: netip.AddrPortFrom(at, 8080), Ready: true, Serving: true})
	}
	return service.Service{Key: service.Key{Namespace: "a", Name: "many"}, ClusterIPs: []netip.Addr{vip}, Ports: []service.Port{port}}
}

// podLike is where a Pod of the node connects from, in the family of an address.
func podLike(a netip.Addr) netip.AddrPort {
	if a.Is4() {
		return netip.AddrPortFrom(random.Pods[0][0], 20000)
	}
	return netip.AddrPortFrom(random.Pods[0][1], 20000)
}
