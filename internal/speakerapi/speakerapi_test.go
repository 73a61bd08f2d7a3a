// SPDX-License-Identifier: Apache-2.0

package speakerapi

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/routing"
)

const gone = "no routing speaker on /run/speaker.sock: "

func TestAgentRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{}
		s, a := h.speaker(t), h.agent(t)
		if err := a.Set(t.Context(), config("tor")); err != nil {
			t.Fatal(err)
		}
		all := routing.PathEvent{Routes: routes("10.10.2.0/24", "tor"), Converged: true}
		s.onRoutes(all)
		s.onSessions(up("tor"))
		a.told(t, all)
		a.saw(t, "tor Established ")
		first := s.got()

		a.end(t)
		synctest.Wait()
		if s.server.Agents() != 0 || s.server.Ready() != nil {
			t.Errorf("without an agent: %d agents, %v", s.server.Agents(), s.server.Ready())
		}
		time.Sleep(time.Hour)
		if got := s.got(); len(got) != 0 {
			t.Errorf("the speaker was told something while there was no agent: %v", got)
		}

		a = h.agent(t)
		a.told(t, all) // before it said anything
		a.saw(t, "tor Established ")
		if err := a.Set(t.Context(), config("tor")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, s.got(), compareValues, comparePrefixes); diff != "" {
			t.Errorf("the second agent wants something else (-first +second):\n%s", diff)
		}
		a.told(t)

		// A configuration with nothing in it is not the same as the end for good.
		if err := a.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.got(); len(got) != 1 || got[0] != nil {
			t.Errorf("Shutdown told the speaker %v", got)
		}
		a.end(t)
		s.end(t)
	})
}

func TestSpeakerRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{}
		s, a := h.speaker(t), h.agent(t)
		if err := a.Set(t.Context(), config("tor")); err != nil {
			t.Fatal(err)
		}
		have := routes("10.10.2.0/24", "tor")
		s.onRoutes(routing.PathEvent{Routes: have, Converged: true})
		s.onSessions(up("tor"))
		a.told(t, routing.PathEvent{Routes: have, Converged: true})

		s.end(t)
		a.told(t, routing.PathEvent{Routes: have})
		a.saw(t, "tor Idle "+a.Err().Error())
		if !strings.HasPrefix(a.Err().Error(), gone+"the connection ended") {
			t.Errorf("%v", a.Err())
		}
		time.Sleep(time.Second)
		err := a.Set(t.Context(), config("tor", "tor-b"))
		if err == nil || !strings.HasPrefix(err.Error(), gone+"connection refused") || !strings.Contains(err.Error(), "waymark-speaker") {
			t.Errorf("Set without a speaker: %v", err)
		}

		s = h.speaker(t)
		time.Sleep(retryMax)
		synctest.Wait()
		if got := s.got(); len(got) != 1 || len(got[0].Peers) != 2 {
			t.Errorf("the fresh speaker was told %v", got)
		}
		if s.server.Ready() == nil {
			t.Error("the fresh speaker is ready although it knows no routes")
		}
		s.onRoutes(routing.PathEvent{})
		s.onSessions(up("tor"))
		a.told(t)
		a.saw(t, "tor Established ")
		s.onRoutes(routing.PathEvent{Routes: have, Converged: true})
		a.told(t, routing.PathEvent{Routes: have, Converged: true})

		// It does not come back.
		s.end(t)
		a.told(t, routing.PathEvent{Routes: have})
		time.Sleep(defaultRestartTime)
		a.told(t, routing.PathEvent{Converged: true})
		a.end(t)
	})
}

// TestNoSpeaker starts an agent before the speaker.
func TestNoSpeaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{}
		a := h.agent(t)
		for range 3 {
			if err := a.Set(t.Context(), config()); err == nil || !strings.HasPrefix(err.Error(), gone+"no such file") {
				t.Errorf("%v", err)
			}
		}
		a.told(t, routing.PathEvent{Converged: true})
		a.saw(t)
		s := h.speaker(t)
		time.Sleep(retryMax)
		synctest.Wait()
		if got := s.got(); len(got) != 1 || a.Err() != nil || s.server.Agents() != 1 {
			t.Errorf("told %v, %v", got, a.Err())
		}
		a.end(t)
		if err := a.Set(t.Context(), config()); !errors.Is(err, ErrStopped) {
			t.Errorf("after the end: %v", err)
		}
		s.end(t)
	})
}

// TestSpeakerFails has one that cannot start, and one that does not answer.
func TestSpeakerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{}
		s, a := h.speaker(t), h.agent(t)
		s.answer = errors.New("port 179: in use\nBGP peer x: bad")
		if err := a.Set(t.Context(), config("tor")); err == nil || err.Error() != s.answer.Error() {
			t.Errorf("%v", err)
		}
		a.saw(t, "tor Idle "+s.answer.Error())
		before := len(a.sessions)
		_ = a.Set(t.Context(), config("tor")) // as before
		synctest.Wait()
		if len(a.sessions) != before {
			t.Error("the same failure is told twice")
		}

		s.answer, s.hang = nil, true
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		err := a.Set(ctx, config("tor"))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "/run/speaker.sock does not answer") {
			t.Errorf("%v", err)
		}
		s.onSessions(up("tor")) // is not held up
		a.saw(t, "tor Established ")
		s.end(t)
		a.end(t)
	})
}

// TestIncomplete has an agent that cannot read a password at its start.
func TestIncomplete(t *testing.T) {
	for name, tc := range map[string]struct {
		// before is when the second agent says what.
		after time.Duration
		sets  []routing.BGPConfig
		want  []string // the peers at the end
	}{
		"at once":           {0, []routing.BGPConfig{incomplete("a")}, []string{"a", "b"}},
		"for long":          {defaultRestartTime, []routing.BGPConfig{incomplete("a")}, []string{"a"}},
		"complete":          {0, []routing.BGPConfig{incomplete("a"), config("a")}, []string{"a"}},
		"later":             {0, []routing.BGPConfig{config("a", "b"), incomplete("a")}, []string{"a"}},
		"again and again":   {0, []routing.BGPConfig{incomplete("a"), incomplete("a")}, []string{"a", "b"}},
		"without any peer":  {0, []routing.BGPConfig{incomplete()}, []string{"a", "b"}},
		"and then it knows": {0, []routing.BGPConfig{incomplete("a"), config("a", "b")}, []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &host{}
				s, a := h.speaker(t), h.agent(t)
				if err := a.Set(t.Context(), config("a", "b")); err != nil {
					t.Fatal(err)
				}
				a.end(t)
				a = h.agent(t)
				synctest.Wait()
				time.Sleep(tc.after)
				for _, c := range tc.sets {
					if err := a.Set(t.Context(), c); err != nil {
						t.Fatal(err)
					}
				}
				sets := s.got()
				var got []string
				for _, p := range sets[len(sets)-1].Peers {
					got = append(got, p.Name)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("peers (-want +got):\n%s", diff)
				}
				a.end(t)
				s.end(t)
			})
		})
	}
}

// TestSlowAgent has one that connects and does not read.
func TestSlowAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{}
		s := h.speaker(t)
		synctest.Wait()
		conn, err := h.at.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		line, err := encode(greeting())
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		if _, err := decode(r); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(line); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range 1000 {
			s.onRoutes(routing.PathEvent{Routes: routes("10.10.2.0/24", "tor"), Converged: true})
		}
		if s.server.Agents() != 1 {
			t.Error("refused")
		}
		time.Sleep(writeTimeout)
		synctest.Wait()
		if s.server.Agents() != 0 {
			t.Error("still there")
		}
		s.end(t)
	})
}

// TestStrangers has ends that are no agents and no speakers.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{at: newPipes()}
		a := h.agent(t)
		future, err := encode(message{Hello: &hello{Protocol: 9, Oldest: 8}})
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct{ says, want string }{
			{string(future), "versions 8 to 9 of the protocol, this one 1: this is the older"},
			{"hello\n", "cannot be read"},
			{"{}\n", "does not say which protocol"},
			{"", "EOF"},
		} {
			conn, err := h.at.Accept()
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = bufio.NewReader(conn).ReadBytes('\n') }()
			if _, err := conn.Write([]byte(tc.says)); err != nil && tc.says != "" {
				t.Fatal(err)
			}
			synctest.Wait()
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if err := a.Err(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%q: %v, want %q", tc.says, err, tc.want)
			}
		}
		if err := a.Set(t.Context(), config("tor")); err == nil || !strings.Contains(err.Error(), "EOF") {
			t.Errorf("%v", err)
		}
		a.end(t)

		s := h.speaker(t)
		synctest.Wait()
		for _, says := range []string{string(future), "hello\n", ""} {
			conn, err := h.at.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = bufio.NewReader(conn).ReadBytes('\n') }()
			_, _ = conn.Write([]byte(says))
			time.Sleep(helloTimeout)
			synctest.Wait()
			if _, err := conn.Write([]byte(`{"shutdown":{"id":1}}` + "\n")); err == nil {
				t.Errorf("%q was not refused", says)
			}
		}
		if got := s.got(); len(got) != 0 {
			t.Errorf("the speaker was told %v", got)
		}
		s.end(t)
	})
}

// TestSocket serves on a real socket, twice in a row.
func TestSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "wm-speaker") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "run", SocketName)
	for range 2 {
		fake := &fakeSpeaker{}
		server := NewServer(ServerParams{Socket: socket, Speaker: func(r func(routing.PathEvent), l func([]routing.SessionStatus)) Speaker {
			fake.onRoutes, fake.onSessions = r, l
			return fake
		}})
		speaker := start(t, server.Run)
		events := make(chan routing.PathEvent, 10)
		client := NewClient(ClientParams{Socket: socket, OnRoutes: func(e routing.PathEvent) { events <- e }, OnSessions: func([]routing.SessionStatus) {}})
		agent := start(t, client.Run)
		for client.Set(t.Context(), config("tor")) != nil {
			time.Sleep(10 * time.Millisecond) // it may not listen yet
		}
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v, %v", info, err)
		}
		fake.onRoutes(routing.PathEvent{Converged: true})
		if e := <-events; !e.Converged {
			t.Errorf("%v", e)
		}
		agent.end(t)
		speaker.end(t)
	}
}
