// SPDX-License-Identifier: Apache-2.0

//go:build integration

package gobgp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

// routeLog records every change of the router's kernel routes.
type routeLog struct {
	mu    sync.Mutex
	lines []string
}

func watchRoutes(t *testing.T, ns *testnet.Namespace) *routeLog {
	t.Helper()
	l := &routeLog{}
	for _, family := range []string{"-4", "-6"} {
		cmd := ns.Command(context.Background(), "ip", family, "monitor", "route")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for sc := bufio.NewScanner(out); sc.Scan(); {
				l.mu.Lock()
				l.lines = append(l.lines, sc.Text())
				l.mu.Unlock()
			}
		}()
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-done
			_ = cmd.Wait()
		})
	}
	return l
}

// deleted returns the recorded deletions of a prefix.
func (l *routeLog) deleted(prefix string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, line := range l.lines {
		if strings.HasPrefix(line, "Deleted") && strings.Contains(line, prefix) {
			out = append(out, line)
		}
	}
	return out
}

const (
	podsV4 = "10.10.1.0/24"
	podsV6 = "fd10:0:0:1::/64"
)

// installed waits until the router's kernel routes the node's Pod CIDRs.
func installed(t *testing.T, r *frr) {
	t.Helper()
	r.eventually("show bgp ipv4 unicast "+podsV4, "best")
	r.eventually("show bgp ipv6 unicast "+podsV6, "best")
	poll(t, func() error {
		if err := r.ns.Try("ip route get 10.10.1.5"); err != nil {
			return err
		}
		return r.ns.Try("ip route get fd10:0:0:1::5")
	})
}

func testRestart(t *testing.T, bgpd string, stop func(*child)) {
	withFRR(t, bgpd, func(t *testing.T, _ *testnet.Namespace, r *frr) {
		c := startChild(t)
		c.set(nodeConf(routerV4))
		c.eventually("up", established("tor"))
		installed(t, r)
		log := watchRoutes(t, r.ns)

		stop(c)
		r.eventually("show bgp ipv4 unicast "+podsV4, "stale")
		r.eventually("show bgp ipv6 unicast "+podsV6, "stale")
		installed(t, r)

		c = startChild(t)
		c.set(nodeConf(routerV4))
		c.eventually("up again", established("tor"))
		poll(t, func() error {
			for _, cmd := range []string{"show bgp ipv4 unicast " + podsV4, "show bgp ipv6 unicast " + podsV6} {
				if out := r.show(cmd); strings.Contains(out, "stale") || !strings.Contains(out, "best") {
					return fmt.Errorf("%s:\n%s", cmd, out)
				}
			}
			return nil
		})
		// The End-of-RIB has come: what was stale has been replaced.
		r.eventually("show bgp ipv4 neighbors 192.0.2.1 graceful-restart", "R bit: True")
		for _, p := range []string{podsV4, podsV6} {
			if lines := log.deleted(p); len(lines) > 0 {
				t.Errorf("the router dropped the route: %q", lines)
			}
		}

		// The deliberate end takes the routes with it, at once.
		c.set(routing.BGPConfig{})
		poll(t, func() error {
			if len(log.deleted(podsV4)) == 0 || len(log.deleted(podsV6)) == 0 {
				return errors.New("the router still has the routes after the shutdown")
			}
			return nil
		})
	})
}

func TestRestartAfterKill(t *testing.T) {
	testRestart(t, frrConf("192.0.2.1", 65001, "", ""), (*child).kill)
}

func TestRestartInOrder(t *testing.T) {
	testRestart(t, frrConf("192.0.2.1", 65001, "", ""), (*child).end)
}

// TestRestartPassiveRouter has a router that forgets dynamic neighbours.
func TestRestartPassiveRouter(t *testing.T) {
	conf := `router bgp 65002
 bgp router-id 192.0.2.2
 no bgp ebgp-requires-policy
 neighbor nodes peer-group
 neighbor nodes remote-as external
 bgp listen range 192.0.2.0/24 peer-group nodes
 address-family ipv6 unicast
  neighbor nodes activate
 exit-address-family
`
	testRestart(t, conf, (*child).kill)
}

// TestRouterRestarts kills the router's bgpd: its routes stay while it may
// come back, and go when it does not.
func TestRouterRestarts(t *testing.T) {
	extra := ` bgp graceful-restart
 bgp graceful-restart preserve-fw-state
 bgp graceful-restart restart-time 12`
	withFRR(t, frrConf("192.0.2.1", 65001, extra, ""), func(t *testing.T, _ *testnet.Namespace, r *frr) {
		s := startSpeaker(t)
		s.set(nodeConf(routerV4))
		routes := []routing.LearnedRoute{
			route("10.10.2.0/24", "192.0.2.2", "tor"),
			route("fd10:0:0:2::/64", "2001:db8::2", "tor"),
		}
		s.eventually("learned", has(routes...))
		s.eventually("converged", func(ev routing.PathEvent, _ []routing.SessionStatus) bool { return ev.Converged })
		s.mu.Lock()
		s.history = nil
		s.mu.Unlock()

		r.kill("bgpd")
		s.eventually("noticed", errorLike("tor", "its routes are kept for its restart time"))
		r.start("bgpd")
		s.eventually("back", established("tor"))
		r.eventually("show bgp ipv4 unicast "+podsV4, "best")
		s.mu.Lock()
		for _, ev := range s.history {
			if !has(routes...)(ev, nil) {
				t.Errorf("routes while the router restarted: %+v", ev.Routes)
			}
		}
		s.mu.Unlock()

		r.kill("bgpd")
		s.eventually("routes go after the restart time", has())
	})
}
