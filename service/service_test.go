// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testgolden"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

var (
	vip4, vip6 = netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:96::10")
	web        = Key{"default", "web"}
)

func ready(aps ...string) []Endpoint {
	var out []Endpoint
	for _, ap := range aps {
		out = append(out, Endpoint{AddrPort: netip.MustParseAddrPort(ap), Ready: true, Serving: true})
	}
	return out
}

func webService(endpoints ...Endpoint) Service {
	return Service{Key: web, ClusterIPs: []netip.Addr{vip4, vip6}, Ports: []Port{{Protocol: TCP, Port: 80, Endpoints: endpoints}}}
}

func many(n int) []Endpoint {
	var out []Endpoint
	for i := range n {
		out = append(out, ready(fmt.Sprintf("10.10.%d.%d:8080", i/250, i%250+1))...)
	}
	return out
}

// switchOf is a fake switch with a pipeline.
func switchOf(t *testing.T, flows ...flow.Flow) *ovstest.Switch {
	t.Helper()
	var tables []uint8
	for _, tb := range pipeline.Tables() {
		tables = append(tables, tb.ID)
	}
	sw := ovstest.NewSwitch(ovstest.SwitchParams{Tables: tables})
	if err := sw.Update("node", flows, nil); err != nil {
		t.Fatal(err)
	}
	return sw
}

// flowTable is that of a fake or of a real switch.
type flowTable interface {
	Update(owner string, flows []flow.Flow, groups []flow.Group) error
	Delete(owner string)
}

// flush puts what a Compiler says into the switch.
func flush(t *testing.T, c *Compiler, sw flowTable) []Desired {
	t.Helper()
	all := slices.Collect(c.Flush())
	for _, d := range all {
		if d.Gone {
			sw.Delete(d.Owner)
			continue
		}
		if err := sw.Update(d.Owner, d.Flows, d.Groups); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestGolden(t *testing.T) {
	c := New()
	c.Set(Service{
		Key: Key{"kube-system", "dns"}, ClusterIPs: []netip.Addr{vip4, vip6},
		Ports: []Port{
			{Protocol: UDP, Port: 53, Endpoints: ready("10.10.1.2:5353", "10.10.2.2:5353", "10.10.3.2:5353", "[fd10::2]:5353")},
			{Protocol: TCP, Port: 53, Endpoints: ready("10.10.1.2:5353", "[fd10::2]:5353")},
			{Protocol: SCTP, Port: 9},
		},
	})
	sw := switchOf(t)
	flush(t, c, sw)
	testgolden.Compare(t, "Service", sw.Dump())
}

func TestReadyBeforeLeaving(t *testing.T) {
	e := func(ap string, r, s, term bool) Endpoint {
		return Endpoint{AddrPort: netip.MustParseAddrPort(ap), Ready: r, Serving: s, Terminating: term}
	}
	for _, tc := range []struct {
		name      string
		endpoints []Endpoint
		publish   bool
		want      string
	}{
		{"none", nil, false, "[]"},
		{"sorted, each once", []Endpoint{e("10.0.0.2:80", true, true, false), e("10.0.0.1:80", true, true, false), e("10.0.0.2:80", true, true, false)}, false, "[10.0.0.1:80 10.0.0.2:80]"},
		{"one address, two ports", ready("10.0.0.1:80", "10.0.0.1:81"), false, "[10.0.0.1:80 10.0.0.1:81]"},
		{"not ready", []Endpoint{e("10.0.0.1:80", false, false, false)}, false, "[]"},
		{"not ready, published", []Endpoint{e("10.0.0.1:80", false, false, false)}, true, "[10.0.0.1:80]"},
		{"ready before leaving", []Endpoint{e("10.0.0.1:80", true, true, false), e("10.0.0.2:80", false, true, true)}, false, "[10.0.0.1:80]"},
		{"only leaving", []Endpoint{e("10.0.0.1:80", false, false, true), e("10.0.0.2:80", false, true, true)}, false, "[10.0.0.2:80]"},
		{"not serving", []Endpoint{e("10.0.0.1:80", false, true, false)}, false, "[]"},
		{"as ready as the better", []Endpoint{e("10.0.0.1:80", false, true, true), e("10.0.0.1:80", true, true, false)}, false, "[10.0.0.1:80]"},
		{"another family", ready("[fd10::2]:80"), false, "[]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := fmt.Sprint(Port{Endpoints: tc.endpoints}.choose(Node{}, true, tc.publish).cluster); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// TestShares: what Open vSwitch makes of the weights (ofproto-dpif.c: the ratio
// of all weights to the least, to a power of two, is the number of places) is
// even for every number of endpoints.
func TestShares(t *testing.T) {
	for n := 1; n <= 1300; n += 1 + n/40 {
		endpoints := Port{Endpoints: many(n)}.choose(Node{}, true, false).cluster
		count := groupCount(n)
		share := map[string]float64{}
		for i := range count {
			bs := bucketsOf(n, i, func(j int) []flow.Action { return pipeline.Endpoint(endpoints[j]) })
			if len(bs) > places {
				t.Fatalf("%d endpoints: %d buckets in a group", n, len(bs))
			}
			total, least := 0, 1<<16
			for _, b := range bs {
				total += int(b.Weight)
				least = min(least, int(b.Weight))
			}
			slots := 1
			for slots < (total+least-1)/least {
				slots *= 2
			}
			if slots > places || total/least != slots && slots > 16 {
				t.Fatalf("%d endpoints: weights %d in all, least %d", n, total, least)
			}
			for _, b := range bs {
				share[b.Actions[0].String()] += float64(b.Weight) / float64(total) / float64(count)
			}
		}
		if len(share) != n {
			t.Fatalf("%d endpoints: %d serve", n, len(share))
		}
		// What a chi-square test of 10,000 connections would find beside chance,
		// whose own spread is the root of twice the degrees of freedom.
		found, mean := 0.0, 10000/float64(n)
		for _, s := range share {
			found += (s*10000 - mean) * (s*10000 - mean) / mean
		}
		if spread := math.Sqrt(2 * float64(max(n-1, 1))); found > 2*spread {
			t.Errorf("%d endpoints: %.1f, chance has a spread of %.1f", n, found, spread)
		}
	}
}

// TestFragments: what shows no port goes to the only port over UDP of a ClusterIP,
// and of several Services with the same one to that of the Service that has it.
func TestFragments(t *testing.T) {
	port := func(p Protocol, n uint16) Port { return Port{Protocol: p, Port: n, Endpoints: ready("10.10.1.2:80")} }
	svc := func(name string, ports ...Port) Service {
		return Service{
			Key: Key{"ns", name}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: ports,
			ExternalIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, // may be shared
		}
	}
	for _, tc := range []struct {
		name     string
		services []Service
		want     string
	}{
		{"one port", []Service{svc("a", port(UDP, 53))}, "[ns/a 10.96.0.1]"},
		{"over TCP as well", []Service{svc("a", port(TCP, 53), port(UDP, 53))}, "[ns/a 10.96.0.1]"},
		{"over TCP", []Service{svc("a", port(TCP, 53))}, "[]"},
		{"two ports", []Service{svc("a", port(UDP, 53), port(UDP, 54))}, "[]"},
		{"two Services", []Service{svc("b", port(UDP, 53)), svc("a", port(UDP, 54))}, "[ns/a 10.96.0.1]"},
		{"the first has none", []Service{svc("b", port(UDP, 53)), svc("a", port(TCP, 54))}, "[]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := New()
			for _, s := range tc.services {
				c.Set(s)
			}
			got := []string{}
			for d := range c.Flush() {
				for _, f := range d.Flows {
					if text := f.String(); strings.Contains(text, "nw_frag=later") {
						_, rest, _ := strings.Cut(text, "nw_dst=")
						addr, _, _ := strings.Cut(rest, ",")
						got = append(got, d.Key.String()+" "+addr)
					}
				}
			}
			if text := fmt.Sprint(got); text != tc.want {
				t.Errorf("got %s, want %s", text, tc.want)
			}
		})
	}
}

// TestSameInputSameFlows: neither order nor history count.
func TestSameInputSameFlows(t *testing.T) {
	services := map[Key]Service{}
	rnd := rand.New(rand.NewPCG(1, 2))
	random := func(i int) Service {
		return Service{
			Key:        Key{"ns", fmt.Sprintf("s%d", i)},
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 1, byte(i)}), netip.MustParseAddr(fmt.Sprintf("fd00:96::1:%d", i))},
			Ports:      []Port{{Protocol: TCP, Port: 80, Endpoints: many(rnd.IntN(40))}, {Protocol: UDP, Port: 80, Endpoints: ready("[fd10::2]:80")}},
		}
	}
	c := New()
	sw := switchOf(t)
	for range 300 {
		s := random(rnd.IntN(30))
		if rnd.IntN(4) == 0 {
			c.Delete(s.Key)
			delete(services, s.Key)
		} else {
			c.Set(s)
			services[s.Key] = s
		}
		if rnd.IntN(3) == 0 {
			flush(t, c, sw)
		}
	}
	flush(t, c, sw)
	fresh := New()
	for _, s := range services {
		fresh.Set(s)
	}
	other := switchOf(t)
	flush(t, fresh, other)
	if d := cmp.Diff(other.Dump(), sw.Dump()); d != "" {
		t.Errorf("-fresh +grown:\n%s", d)
	}
	if all := slices.Collect(c.Flush()); len(all) != 0 {
		t.Errorf("flush without a change: %v", all)
	}
}

func TestFlushNamesWhatChanged(t *testing.T) {
	c := New()
	a, b := webService(ready("10.10.1.2:80")...), webService()
	b.Name, b.ClusterIPs = "other", []netip.Addr{netip.MustParseAddr("10.96.0.11")}
	names := func() string {
		var out []string
		for d := range c.Flush() {
			out = append(out, fmt.Sprintf("%s:%t:%d", d.Key, d.Gone, len(d.Groups)))
		}
		return fmt.Sprint(out)
	}
	step := func(what, want string) {
		t.Helper()
		if got := names(); got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	c.Set(a)
	c.Set(b)
	step("two new", "[default/other:false:0 default/web:false:1]")
	c.Set(a)
	step("nothing new", "[]")
	a.Ports = []Port{{Protocol: TCP, Port: 80, Endpoints: ready("10.10.1.3:80")}}
	c.Set(a)
	step("another endpoint", "[default/web:false:1]")
	c.Delete(a.Key)
	c.Set(b)
	step("one gone", "[default/web:true:0]")
	c.Delete(a.Key)
	step("gone twice", "[]")
	c.Set(a)
	c.Delete(b.Key)
	next, stop := iter.Pull(c.Flush())
	if d, _ := next(); d.Key != b.Key {
		t.Errorf("%s comes before what is gone", d.Key)
	}
	stop()
	step("a loop that ended early", "[default/web:false:1]")
}

func TestPortNamedTwice(t *testing.T) {
	s := webService(ready("10.10.1.2:80")...)
	s.Ports = append(s.Ports, Port{Protocol: TCP, Port: 80, Endpoints: ready("10.10.1.3:80")})
	c := New()
	c.Set(s)
	sw := switchOf(t)
	d := flush(t, c, sw)
	if len(d) != 1 || len(d[0].Groups) != 1 || !slices.ContainsFunc(d[0].Groups[0].Buckets, func(b flow.Bucket) bool {
		return b.Actions[0].String() == pipeline.Endpoint(netip.MustParseAddrPort("10.10.1.2:80"))[0].String()
	}) {
		t.Errorf("got %v", d)
	}
}
