// SPDX-License-Identifier: Apache-2.0

//go:build integration

package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

const (
	deadline = 40 * time.Second
	hold     = 9 * time.Second
)

// node is the speaker under test with what it told last.
type node struct {
	*Speaker
	t       *testing.T
	stop    func()
	changed chan struct{}

	mu       sync.Mutex
	event    routing.PathEvent
	sessions map[string]routing.SessionStatus
}

func startNode(t *testing.T) *node {
	n := &node{t: t, changed: make(chan struct{}, 1)}
	tell := func(change func()) {
		n.mu.Lock()
		change()
		n.mu.Unlock()
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}
	n.Speaker = New(Params{
		OnRoutes: func(ev routing.PathEvent) { tell(func() { n.event = ev }) },
		OnSessions: func(ss []routing.SessionStatus) {
			tell(func() {
				n.sessions = map[string]routing.SessionStatus{}
				for _, s := range ss {
					n.sessions[s.Peer] = s
				}
			})
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

func (n *node) set(c routing.BGPConfig) {
	n.t.Helper()
	if err := n.Set(n.t.Context(), c); err != nil {
		n.t.Fatal(err)
	}
}

// seen is what a node told at one moment.
type seen struct {
	// hops are the next hops of the prefix that the routers announce.
	hops     []string
	at       time.Time
	sessions map[string]routing.SessionStatus
}

func (n *node) now() seen {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := seen{at: n.event.At, sessions: n.sessions}
	for _, r := range n.event.Routes {
		for _, h := range r.NextHops {
			s.hops = append(s.hops, h.Addr.String())
		}
	}
	return s
}

// eventually waits for cond to hold.
func (n *node) eventually(what string, cond func(seen) bool) seen {
	n.t.Helper()
	timeout := time.After(deadline)
	for {
		s := n.now()
		if cond(s) {
			return s
		}
		select {
		case <-n.changed:
		case <-timeout:
			n.t.Fatalf("%s: not within %s: next hops %v, sessions %+v", what, deadline, s.hops, s.sessions)
		}
	}
}

func hops(want ...string) func(seen) bool {
	return func(s seen) bool { return cmp.Equal(s.hops, want) }
}

func (s seen) up(peer string) bool {
	b := s.sessions[peer].BFD
	return s.sessions[peer].State == routing.SessionEstablished &&
		b != nil && b.State == routing.BFDUp && b.DetectionTime < time.Second*5 && b.Interval < time.Second
}

// The node's and the routers' addresses, by router, and what they announce.
var (
	nodeAddr   = [2]string{"192.0.2.1", "198.51.100.1"}
	routerAddr = [2]string{"192.0.2.2", "198.51.100.2"}
)

// b is watched less closely: it is to stay, also while a test has no processor. It
// has GTSM, with which BFD is that over multiple hops.
var (
	interval   = [2]time.Duration{50 * time.Millisecond, 400 * time.Millisecond}
	multiplier = [2]int{3, 10}
)

const own, prefix = "10.10.1.0/24", "10.10.9.0/24"

// rack is a node with two routers, a and b, on links of their own that announce
// the same prefix.
func rack(t *testing.T, body func(t *testing.T, n *node, c routing.BGPConfig, routers [2]*frr)) {
	testnet.Run(t, func(t *testing.T, ns *testnet.Namespace) {
		var routers [2]*frr
		for i, name := range []string{"a", "b"} {
			far := testnet.New(t, name)
			testnet.Veth(t, testnet.End{NS: ns, Name: "eth" + strconv.Itoa(i), Addrs: []string{nodeAddr[i] + "/24"}},
				testnet.End{NS: far, Name: "eth0", Addrs: []string{routerAddr[i] + "/24"}})
			routers[i] = startFRR(t, far, routerConfig(i))
		}
		n := startNode(t)
		c := nodeConfig()
		n.set(c)
		n.eventually("both paths and BFD", func(s seen) bool {
			return hops(routerAddr[0], routerAddr[1])(s) && s.up("a") && s.up("b")
		})
		for _, name := range []string{"a", "b"} {
			if s := n.now().sessions[name]; s.BFD.Downs != 0 || s.LastError != "" && strings.Contains(s.LastError, "BFD") {
				t.Errorf("the session with %s went down as it came up: %+v, BFD %+v", name, s, s.BFD)
			}
		}
		body(t, n, c, routers)
	})
}

// config is that of a router in FRR.
func routerConfig(i int) string {
	return fmt.Sprintf(`router bgp %[1]d
 bgp router-id 192.0.2.%[3]d
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 no bgp network import-check
 neighbor %[2]s remote-as 65001
 neighbor %[2]s timers connect 1
 neighbor %[2]s bfd %[5]d %[6]d %[6]d
%[7]s
 address-family ipv4 unicast
  network %[4]s
  neighbor %[2]s activate
`, 65002+i, nodeAddr[i], 2+i, prefix,
		multiplier[i], interval[i]/time.Millisecond,
		[2]string{"", " neighbor " + nodeAddr[i] + " ttl-security hops 1"}[i])
}

func nodeConfig() routing.BGPConfig {
	c := routing.BGPConfig{
		Speaker: routing.SpeakerConfig{
			ASN: 65001, RouterID: netip.MustParseAddr("192.0.2.1"), MaximumPaths: 8,
			GracefulRestart: routing.GracefulRestart{Enabled: true, RestartTime: 60 * time.Second},
		},
		Advertisements: []routing.Advertisement{{
			Prefix: netip.MustParsePrefix(own), NextHops: []netip.Addr{netip.MustParseAddr(nodeAddr[0])},
		}},
		Scope: routing.ImportScope{
			Local:        routing.Node{Name: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix(own)}},
			ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.10.0.0/16")},
		},
	}
	for i, name := range []string{"a", "b"} {
		c.Peers = append(c.Peers, routing.Peer{
			Name: name, Address: netip.MustParseAddr(routerAddr[i]), ASN: uint32(65002 + i),
			Families: []routing.Family{routing.IPv4},
			Timers:   routing.Timers{Hold: hold, ConnectRetry: time.Second},
			BFD:      &routing.BFD{MinTx: interval[i], MinRx: interval[i], Multiplier: multiplier[i]},
		})
	}
	c.Peers[1].GTSMHops = 1
	for _, p := range c.Peers {
		p.BFD.Multihop = routing.BFDMultihop(p, c.Speaker.ASN, nil)
	}
	return c
}

// TestSilentRouter has one of two routers fall silent while its link stays up.
func TestSilentRouter(t *testing.T) {
	rack(t, func(t *testing.T, n *node, _ routing.BGPConfig, routers [2]*frr) {
		a := routers[0]
		before := n.now()
		silent := time.Now()
		a.drop("meta mark 0")
		lost := n.eventually("silence", hops(routerAddr[1]))
		took := lost.at.Sub(silent)
		t.Logf("without the silent router after %s", took)
		if took > hold/3 {
			t.Errorf("the silent router's route went after %s", took)
		}
		down := n.eventually("the session ends", func(s seen) bool {
			return s.sessions["a"].State != routing.SessionEstablished && s.sessions["a"].LastError != ""
		})
		if got := down.sessions["a"]; !strings.Contains(got.LastError, "BFD lost the path to the peer: control detection time expired") || !got.BFD.Suspended {
			t.Errorf("the silent router's session: %+v, BFD %+v", got, got.BFD)
		}
		a.heal()
		back := n.eventually("healed", func(s seen) bool { return hops(routerAddr[0], routerAddr[1])(s) && s.up("a") })
		if got, want := back.sessions["b"].Since, before.sessions["b"].Since; !got.Equal(want) || !back.up("b") {
			t.Errorf("the other router's session is of %s, was of %s", got, want)
		}
		if got := back.sessions["a"].BFD; got.Downs == 0 || got.Suspended {
			t.Errorf("BFD after healing: %+v", got)
		}
	})
}

// TestBFDAlone has BFD fail, and nothing else: the session comes back, and the
// routes do not before BFD is up or is not wanted any more.
func TestBFDAlone(t *testing.T) {
	rack(t, func(t *testing.T, n *node, c routing.BGPConfig, routers [2]*frr) {
		a, b := routers[0], routers[1]
		hopA, hopB := routerAddr[0], routerAddr[1]
		b.drop("udp dport 4784")
		lost := n.eventually("routes suspended", hops(hopA)).at
		n.eventually("session back without BFD", func(s seen) bool {
			b := s.sessions["b"]
			return b.State == routing.SessionEstablished && b.Since.After(lost) && b.Families[0].Accepted == 1 && b.BFD.Suspended
		})
		if got := n.now().hops; !cmp.Equal(got, []string{hopA}) {
			t.Errorf("next hops with an established session over a lost path: %v", got)
		}
		wanted := c.Peers[1].BFD
		c.Peers[1].BFD = nil
		n.set(c)
		n.eventually("BFD is not wanted any more", hops(hopA, hopB))
		c.Peers[1].BFD = wanted
		n.set(c)
		n.eventually("BFD that was never up changes nothing", func(s seen) bool {
			return hops(hopA, hopB)(s) && s.sessions["b"].BFD != nil && !s.sessions["b"].BFD.Suspended
		})
		b.heal()
		n.eventually("both again", func(s seen) bool { return hops(hopA, hopB)(s) && s.up("b") })

		// Switched off at the router, for which FRR says Down: no loss, the session
		// stays.
		before := n.now().sessions["a"].Since
		a.configure("router bgp 65002", "no neighbor 192.0.2.1 bfd")
		off := n.eventually("switched off", func(s seen) bool { return s.sessions["a"].BFD.State == "Down" })
		if got := off.sessions["a"]; !cmp.Equal(off.hops, []string{hopA, hopB}) || !got.Since.Equal(before) || got.BFD.Suspended {
			t.Errorf("BFD switched off at the router: next hops %v, session %+v, BFD %+v", off.hops, got, got.BFD)
		}
	})
}

// TestRestart ends the speaker, which takes BFD with it. FRR keeps our routes as
// it does without BFD.
func TestRestart(t *testing.T) {
	rack(t, func(t *testing.T, n *node, _ routing.BGPConfig, routers [2]*frr) {
		a := routers[0]
		n.stop()
		testnet.WaitFor(t, deadline, func() error {
			if out := a.show("bfdd", "show bfd peers json"); !strings.Contains(out, `"status":"down"`) {
				return fmt.Errorf("BFD of FRR: %s", out)
			}
			return nil
		})
		if out := a.show("bgpd", "show bgp ipv4 unicast "+own); !strings.Contains(out, "stale") {
			t.Errorf("our routes at the router after BFD went down: %s", out)
		}
	})
}
