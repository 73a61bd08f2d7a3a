// SPDX-License-Identifier: Apache-2.0

package naive

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/service"
)

var (
	addr = netip.MustParseAddr
	web  = service.Key{Namespace: "default", Name: "web"}
)

// Letters stand for endpoints: a and b are Pods of the node, c and d of others.
var letters = map[string]service.Endpoint{
	"a": {AddrPort: netip.MustParseAddrPort("10.0.1.1:8080"), Node: "n1"},
	"b": {AddrPort: netip.MustParseAddrPort("10.0.1.2:8080"), Node: "n1"},
	"c": {AddrPort: netip.MustParseAddrPort("10.0.2.1:8080"), Node: "n2"},
	"d": {AddrPort: netip.MustParseAddrPort("10.0.2.2:8080"), Node: "n2"},
	"6": {AddrPort: netip.MustParseAddrPort("[fd00::1]:8080"), Node: "n1"},
}

func endpoint(letter string, change ...func(*service.Endpoint)) service.Endpoint {
	e := letters[letter]
	e.Ready, e.Serving = true, true
	for _, c := range change {
		c(&e)
	}
	return e
}

func leaving(e *service.Endpoint) { e.Ready, e.Terminating = false, true }

func down(e *service.Endpoint) { e.Ready, e.Serving = false, false }

func zone(zones ...string) func(*service.Endpoint) {
	return func(e *service.Endpoint) { e.ForZones = zones }
}

func node(nodes ...string) func(*service.Endpoint) {
	return func(e *service.Endpoint) { e.ForNodes = nodes }
}

func endpoints(e ...service.Endpoint) func(*service.Service) {
	return func(s *service.Service) { s.Ports[0].Endpoints = e }
}

func internalLocal(s *service.Service) { s.InternalLocal = true }
func externalLocal(s *service.Service) { s.ExternalLocal = true }
func publish(s *service.Service)       { s.PublishNotReady = true }

func ranges(texts ...string) func(*service.Service) {
	return func(s *service.Service) {
		for _, t := range texts {
			s.SourceRanges = append(s.SourceRanges, netip.MustParsePrefix(t))
		}
	}
}

// cluster has a Service of every kind with endpoints a, b, c and d.
func cluster(changes ...func(*service.Service)) Cluster {
	s := service.Service{
		Key: web, ClusterIPs: []netip.Addr{addr("10.96.0.1")},
		ExternalIPs: []netip.Addr{addr("198.51.100.1"), addr("192.0.2.1")}, LoadBalancerIPs: []netip.Addr{addr("198.51.100.2")},
		HealthCheckPort: 31000,
		Ports:           []service.Port{{Protocol: service.TCP, Port: 80, NodePort: 30080}},
	}
	endpoints(endpoint("a"), endpoint("b"), endpoint("c"), endpoint("d"))(&s)
	for _, c := range changes {
		c(&s)
	}
	return Cluster{
		Services:  map[service.Key]service.Service{web: s},
		Node:      service.Node{Name: "n1", Zone: "z1", Addrs: []netip.Addr{addr("192.0.2.1")}},
		Pods:      []netip.Addr{addr("10.0.1.1"), addr("10.0.1.2")},
		NodePort4: addr("169.254.87.78"), NodePort6: addr("100::574e"),
		Alias: func(a netip.Addr) netip.Addr { return alias(a) },
	}
}

func alias(a netip.Addr) netip.Addr {
	return netip.AddrFrom4([4]byte{169, 254, a.As4()[0], a.As4()[3]})
}

// text is a Verdict with letters for endpoints; those that do not see the
// client are capitals.
func (v Verdict) text() string {
	if v.Outcome != Balanced {
		return v.Outcome.String()
	}
	out := ""
	for _, e := range v.Endpoints {
		for letter, l := range letters {
			if l.AddrPort == e.AddrPort && e.Replaced {
				out += string(letter[0] - 'a' + 'A')
			} else if l.AddrPort == e.AddrPort {
				out += letter
			}
		}
	}
	return out
}

func TestVerdict(t *testing.T) {
	const clusterIP, externalIP, loadBalancerIP, nodePort = "10.96.0.1:80", "198.51.100.1:80", "198.51.100.2:80", "169.254.87.78:30080"
	type changes []func(*service.Service)
	for _, c := range []struct {
		name   string
		change changes
		from   Origin
		to     string
		want   string
	}{
		{"ClusterIP", nil, FromPod, clusterIP, "abcd"},
		{"ClusterIP from the node", nil, FromNode, clusterIP, "abCD"},
		{"ClusterIP from outside", nil, FromOutside, clusterIP, "abCD"},
		{"from the tunnel", nil, FromTunnel, clusterIP, "passes"},
		{"another port", nil, FromPod, "10.96.0.1:81", "refused"},
		{"another port of an external IP", nil, FromPod, "198.51.100.1:81", "passes"},
		{"another address", nil, FromPod, "10.96.0.2:80", "passes"},
		{"NodePort", nil, FromOutside, nodePort, "abCD"},
		{"NodePort from a Pod", nil, FromPod, "192.0.2.1:30080", "abcd"},
		{"NodePort of another node from a Pod", nil, FromPod, "192.0.2.2:30080", "passes"},
		{"own external IP from outside", nil, FromOutside, "192.0.2.1:80", "abCD"},
		{"own external IP from a Pod", nil, FromPod, "192.0.2.1:80", "abcd"},

		{"no endpoints", changes{endpoints()}, FromPod, clusterIP, "refused"},
		{"only of the other family", changes{endpoints(endpoint("6"))}, FromPod, clusterIP, "refused"},
		{"duplicates", changes{endpoints(endpoint("a"), endpoint("c"), endpoint("a", down))}, FromPod, clusterIP, "ac"},
		{"unready ones", changes{endpoints(endpoint("a", down), endpoint("c"))}, FromPod, clusterIP, "c"},
		{"unready ones that publish", changes{publish, endpoints(endpoint("a", down), endpoint("c"))}, FromPod, clusterIP, "ac"},
		{"leaving beside ready", changes{endpoints(endpoint("a", leaving), endpoint("c"))}, FromPod, clusterIP, "c"},
		{"leaving only", changes{endpoints(endpoint("a", leaving), endpoint("c", down))}, FromPod, clusterIP, "a"},

		{"internal Local", changes{internalLocal}, FromPod, clusterIP, "ab"},
		{"internal Local is not for external", changes{internalLocal}, FromPod, externalIP, "abcd"},
		{"internal Local, all elsewhere", changes{internalLocal, endpoints(endpoint("c"))}, FromPod, clusterIP, "dropped"},
		{"internal Local, none", changes{internalLocal, endpoints(endpoint("c", down))}, FromPod, clusterIP, "refused"},
		{"internal Local, leaving", changes{internalLocal, endpoints(endpoint("a", leaving), endpoint("c"))}, FromPod, clusterIP, "a"},
		{"external Local", changes{externalLocal}, FromOutside, externalIP, "ab"},
		{"external Local, NodePort", changes{externalLocal}, FromOutside, nodePort, "ab"},
		{"external Local is not for ClusterIPs", changes{externalLocal}, FromOutside, clusterIP, "abCD"},
		{"external Local from the node", changes{externalLocal}, FromNode, nodePort, "abCD"},
		{"external Local from a Pod", changes{externalLocal}, FromPod, externalIP, "abcd"},
		{"external Local, all elsewhere", changes{externalLocal, endpoints(endpoint("c"))}, FromOutside, loadBalancerIP, "dropped"},
		{"external Local, none", changes{externalLocal, endpoints()}, FromOutside, loadBalancerIP, "refused"},

		{"hints for zones", changes{endpoints(endpoint("a", zone("z2")), endpoint("c", zone("z1", "z2")))}, FromPod, clusterIP, "c"},
		{"hints for other zones", changes{endpoints(endpoint("a", zone("z2")), endpoint("c", zone("z2")))}, FromPod, clusterIP, "ac"},
		{"a hint is missing", changes{endpoints(endpoint("a"), endpoint("c", zone("z1")))}, FromPod, clusterIP, "ac"},
		{"unready without a hint", changes{endpoints(endpoint("a", zone("z2")), endpoint("b", down), endpoint("c", zone("z1")))}, FromPod, clusterIP, "c"},
		{"the other family without a hint", changes{endpoints(endpoint("a", zone("z2")), endpoint("6"), endpoint("c", zone("z1")))}, FromPod, clusterIP, "c"},
		{"hints of those that leave", changes{endpoints(endpoint("a", leaving, zone("z2")), endpoint("c", leaving, zone("z1")))}, FromPod, clusterIP, "ac"},
		{"nodes before zones", changes{endpoints(endpoint("a", node("n1"), zone("z2")), endpoint("c", node("n2"), zone("z1")))}, FromPod, clusterIP, "a"},
		{"zones if there is none for the node", changes{endpoints(endpoint("a", node("n2"), zone("z2")), endpoint("c", node("n2"), zone("z1")))}, FromPod, clusterIP, "c"},
		{"no hints with Local", changes{internalLocal, endpoints(endpoint("a", zone("z2")), endpoint("b", zone("z1")))}, FromPod, clusterIP, "ab"},

		{"in the source ranges", changes{ranges("203.0.113.0/24")}, FromOutside, loadBalancerIP, "abCD"},
		{"outside of the source ranges", changes{ranges("203.0.114.0/24")}, FromOutside, loadBalancerIP, "dropped"},
		{"a Pod outside of the source ranges", changes{ranges("203.0.114.0/24")}, FromPod, loadBalancerIP, "dropped"},
		{"source ranges of the other family", changes{ranges("::/0")}, FromOutside, loadBalancerIP, "dropped"},
		{"external IPs have no source ranges", changes{ranges("203.0.114.0/24")}, FromOutside, externalIP, "abCD"},
		{"nor have ClusterIPs", changes{ranges("203.0.114.0/24")}, FromOutside, clusterIP, "abCD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := map[Origin]string{FromPod: "10.0.1.1:4000", FromNode: "192.0.2.1:4000", FromOutside: "203.0.113.7:4000", FromTunnel: "10.0.2.1:4000"}[c.from]
			to := netip.MustParseAddrPort(c.to)
			if c.from != FromPod && slices.Contains([]string{externalIP, loadBalancerIP, "192.0.2.1:80"}, c.to) {
				to = netip.AddrPortFrom(alias(to.Addr()), to.Port())
			}
			p := Packet{From: c.from, Protocol: service.TCP, Source: netip.MustParseAddrPort(source), Destination: to}
			if v := cluster(c.change...).Verdict(p); v.text() != c.want {
				t.Errorf("%s: %s (%s), want %s", p, v.text(), v.Why, c.want)
			}
		})
	}
}

// clash adds a Service with another key and endpoint c.
func clash(name string, change func(*service.Service)) Cluster {
	c := cluster()
	s := service.Service{
		Key: service.Key{Namespace: "default", Name: name}, ClusterIPs: []netip.Addr{addr("10.96.0.9")},
		Ports: []service.Port{{Protocol: service.TCP, Port: 80, Endpoints: []service.Endpoint{endpoint("c")}}},
	}
	change(&s)
	c.Services[s.Key] = s
	return c
}

func TestClash(t *testing.T) {
	sameIP := func(s *service.Service) { s.ExternalIPs = []netip.Addr{addr("198.51.100.1")} }
	sameNodePort := func(s *service.Service) { s.Ports[0].NodePort = 30080 }
	for _, c := range []struct {
		name, key string
		change    func(*service.Service)
		to, want  string
	}{
		{"the lesser key has the address", "a", sameIP, "198.51.100.1:80", "c"},
		{"the greater has not", "z", sameIP, "198.51.100.1:80", "abcd"},
		{"its other addresses are its own", "z", sameIP, "10.96.0.9:80", "c"},
		{"the lesser key has the NodePort", "a", sameNodePort, "192.0.2.1:30080", "c"},
		{"the greater has not", "z", sameNodePort, "192.0.2.1:30080", "abcd"},
		{"other ports of an address are shared", "z", func(s *service.Service) { sameIP(s); s.Ports[0].Port = 81 }, "198.51.100.1:81", "c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Packet{Protocol: service.TCP, Source: netip.MustParseAddrPort("10.0.1.2:4000"), Destination: netip.MustParseAddrPort(c.to)}
			if v := clash(c.key, c.change).Verdict(p); v.text() != c.want {
				t.Errorf("%s (%s), want %s", v.text(), v.Why, c.want)
			}
		})
	}
}

func TestHost(t *testing.T) {
	announced := func(kind service.AddressKind, a string) service.Announcement {
		return service.Announcement{Key: web, Addr: addr(a), Kind: kind}
	}
	inside := announced(service.ClusterIP, "10.96.0.1")
	aliases := func(addrs ...string) []service.Alias {
		var out []service.Alias
		for _, a := range addrs {
			out = append(out, service.Alias{Protocol: service.TCP, At: netip.AddrPortFrom(addr(a), 80), To: alias(addr(a))})
		}
		return out
	}
	want := service.Host{
		Routes:    []netip.Addr{addr("10.96.0.1")},
		NodePorts: []service.NodePort{{Key: web, Protocol: service.TCP, Port: 30080}},
		Aliases:   aliases("192.0.2.1", "198.51.100.1", "198.51.100.2"),
		Announced: []service.Announcement{inside, announced(service.ExternalIP, "192.0.2.1"),
			announced(service.ExternalIP, "198.51.100.1"), announced(service.LoadBalancerIP, "198.51.100.2")},
		Addrs: []netip.Addr{addr("10.96.0.1"), addr("192.0.2.1"), addr("198.51.100.1"), addr("198.51.100.2")},
	}
	for _, c := range []struct {
		name    string
		cluster Cluster
		change  func(*service.Host)
	}{
		{"all endpoints", cluster(), func(*service.Host) {}},
		{"no endpoints", cluster(endpoints()), func(h *service.Host) { h.Announced = nil }},
		{"Local", cluster(externalLocal, endpoints(endpoint("a"), endpoint("b", leaving), endpoint("c"))), func(h *service.Host) {
			h.HealthChecks = []service.HealthCheck{{Key: web, Port: 31000, Endpoints: 1}}
		}},
		{"Local, all elsewhere", cluster(externalLocal, endpoints(endpoint("c"))), func(h *service.Host) {
			h.HealthChecks = []service.HealthCheck{{Key: web, Port: 31000}}
			h.Announced = []service.Announcement{inside}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := want
			c.change(&want)
			equal := cmp.Comparer(func(a, b fmt.Stringer) bool { return a.String() == b.String() })
			if d := cmp.Diff(want, c.cluster.Host(), equal); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestAlive(t *testing.T) {
	c := cluster(endpoints(endpoint("a"), endpoint("b", leaving), endpoint("c", down)))
	alive := func(protocol service.Protocol) string {
		s := c.Services[web]
		s.Ports = slices.Clone(s.Ports)
		s.Ports[0].Protocol = protocol
		c.Services[web] = s
		out := ""
		for _, letter := range []string{"a", "b", "c", "d"} {
			if c.Alive(web, protocol, 80, letters[letter].AddrPort) {
				out += letter
			}
		}
		return out
	}
	for protocol, want := range map[service.Protocol]string{service.TCP: "abc", service.SCTP: "abc", service.UDP: "ab"} {
		if got := alive(protocol); got != want {
			t.Errorf("%s: %s, want %s", protocol, got, want)
		}
	}
}
