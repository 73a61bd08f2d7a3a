// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"testing"

	"github.com/waymark-net/waymark/routing"
)

// TestSuspend has two routers that announce the same network, one of which is
// suspended.
func TestSuspend(t *testing.T) {
	t.Parallel()
	node := end{"127.0.9.1", 65001, freePort(t)}
	tors := []end{{"127.0.9.2", 65002, freePort(t)}, {"127.0.9.3", 65003, freePort(t)}}
	n := startSpeaker(t)
	n.set(conf(node, tors...))
	for i, tor := range tors {
		r := startSpeaker(t)
		rc := conf(tor, node)
		rc.Advertisements = []routing.Advertisement{advertise("10.10.9.0/24", []string{"192.0.2.2", "192.0.2.3"}[i])}
		r.set(rc)
	}
	both := routing.LearnedRoute{
		Prefix:   pfx("10.10.9.0/24"),
		NextHops: []routing.NextHop{{Addr: ip("192.0.2.2")}, {Addr: ip("192.0.2.3")}},
		Peers:    []string{"p127.0.9.2", "p127.0.9.3"},
	}
	other := route("10.10.9.0/24", "192.0.2.3", "p127.0.9.3")
	suspend := func(why map[string]string) {
		t.Helper()
		if err := n.Suspend(context.Background(), why); err != nil {
			t.Fatal(err)
		}
	}
	told := func() (routing.PathEvent, []routing.SessionStatus) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.event, n.sessions
	}
	n.eventually("two equal paths", has(both))
	before := n.Sessions()

	// The routes are gone before Suspend returns, the session ends.
	suspend(map[string]string{"p127.0.9.2": "the path is lost"})
	if ev, _ := told(); !has(other)(ev, nil) {
		t.Errorf("routes after Suspend: %+v", ev)
	}
	n.eventually("said why", errorLike("p127.0.9.2", "the path is lost"))
	n.eventually("another session, its routes are read", func(_ routing.PathEvent, ss []routing.SessionStatus) bool {
		return ss[0].State == routing.SessionEstablished && ss[0].Since.After(before[0].Since) && ss[0].Families[0].Accepted == 1
	})
	again, _ := told()
	if !has(other)(again, nil) {
		t.Errorf("routes of a suspended peer with a session: %+v", again)
	}

	// The same again ends no session, and what is not suspended is used at once.
	since := n.Sessions()[0].Since
	suspend(map[string]string{"p127.0.9.2": "the path is lost"})
	suspend(nil)
	if ev, _ := told(); !has(both)(ev, nil) {
		t.Errorf("routes after the end of the suspension: %+v", ev)
	}
	sessions := n.Sessions()
	if !sessions[0].Since.Equal(since) || !sessions[1].Since.Equal(before[1].Since) {
		t.Errorf("sessions began anew: %+v, were %+v", sessions, before)
	}

	// Lost and back at once: the routes of the session that is ended are not used.
	suspend(map[string]string{"p127.0.9.2": "for a moment"})
	suspend(nil)
	if ev, _ := told(); !has(other)(ev, nil) {
		t.Errorf("routes of the session that ends: %+v", ev)
	}
	n.eventually("both again", has(both))
	if s := n.Sessions()[0]; !s.Since.After(since) {
		t.Errorf("the session was not ended: %+v", s)
	}
}
