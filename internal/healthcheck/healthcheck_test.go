// SPDX-License-Identifier: Apache-2.0

package healthcheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ports stands in for the node's: each opens at any port of the loopback.
type ports struct {
	listeners map[uint16]net.Listener
	taken     map[uint16]bool
	// opened counts how often each was.
	opened map[uint16]int
}

var errTaken = errors.New("address already in use")

func (p *ports) listen(port uint16) (net.Listener, error) {
	if p.taken[port] {
		return nil, fmt.Errorf("listen tcp :%d: %w", port, errTaken)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	p.listeners[port] = l
	p.opened[port]++
	return l, err
}

// world is a Server that runs until the end of the test.
type world struct {
	*Server
	*ports
	healthy atomic.Bool
}

func newWorld(t *testing.T) *world {
	w := &world{ports: &ports{map[uint16]net.Listener{}, map[uint16]bool{}, map[uint16]int{}}}
	w.healthy.Store(true)
	w.Server = New(Params{Healthy: w.healthy.Load, Listen: w.listen, Node: NodeParams{
		Healthy: w.healthy.Load, Deleted: func() bool { return false }, Updated: func() time.Time { return time.Time{} },
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

// ask returns status, weight and body of the answer at a port, or "closed".
func (w *world) ask(t *testing.T, port uint16) string {
	t.Helper()
	l := w.listeners[port]
	if l == nil {
		return "closed"
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		return "closed"
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%d %s %s", resp.StatusCode, resp.Header.Get("X-Load-Balancing-Endpoint-Weight"), strings.TrimSpace(string(b)))
}

func check(name string, port uint16, endpoints int) HealthCheck {
	return HealthCheck{Namespace: "default", Name: name, Port: port, Endpoints: endpoints}
}

func said(status, endpoints int, name string, healthy bool) string {
	return fmt.Sprintf(`%d %d {"service":{"namespace":"default","name":%q},"localEndpoints":%d,"serviceProxyHealthy":%v}`,
		status, endpoints, name, endpoints, healthy)
}

func TestAnswers(t *testing.T) {
	w := newWorld(t)
	steps := []struct {
		name    string
		checks  []HealthCheck
		taken   []uint16
		sick    bool
		answers map[uint16]string
		err     string
	}{
		{"two", []HealthCheck{check("a", 30001, 2), check("b", 30002, 0)}, nil, false,
			map[uint16]string{30001: said(200, 2, "a", true), 30002: said(503, 0, "b", true)}, ""},
		{"numbers change", []HealthCheck{check("a", 30001, 0), check("b", 30002, 1)}, nil, false,
			map[uint16]string{30001: said(503, 0, "a", true), 30002: said(200, 1, "b", true)}, ""},
		{"the node does not serve", []HealthCheck{check("a", 30001, 1), check("b", 30002, 0)}, nil, true,
			map[uint16]string{30001: said(503, 1, "a", false), 30002: said(503, 0, "b", false)}, ""},
		{"a port for another Service", []HealthCheck{check("c", 30001, 3)}, nil, false,
			map[uint16]string{30001: said(200, 3, "c", true), 30002: "closed"}, ""},
		{"a port is taken", []HealthCheck{check("c", 30001, 3), check("d", 30003, 1)}, []uint16{30003}, false,
			map[uint16]string{30001: said(200, 3, "c", true), 30003: "closed"}, "health check of Service default/d: listen tcp :30003: address already in use"},
		{"it is free", []HealthCheck{check("c", 30001, 3), check("d", 30003, 1)}, nil, false,
			map[uint16]string{30001: said(200, 3, "c", true), 30003: said(200, 1, "d", true)}, ""},
		{"one port, two Services", []HealthCheck{check("z", 30004, 1), check("e", 30004, 7)}, nil, false,
			map[uint16]string{30001: "closed", 30004: said(200, 7, "e", true)}, "health check of Service default/z: port 30004 is that of Service default/e"},
		{"no port", []HealthCheck{check("f", 0, 1)}, nil, false, map[uint16]string{30004: "closed"}, "health check of Service default/f: port 0 is not from 1 to 65535"},
		{"none", nil, nil, false, map[uint16]string{30001: "closed"}, ""},
		{"again", []HealthCheck{check("b", 30002, 1)}, nil, false, map[uint16]string{30002: said(200, 1, "b", true)}, ""},
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			clear(w.taken)
			for _, p := range s.taken {
				w.taken[p] = true
			}
			w.healthy.Store(!s.sick)
			before := slices.Clone(s.checks)
			err := w.Set(t.Context(), s.checks)
			if s.err == "" && err != nil || s.err != "" && (err == nil || err.Error() != s.err) {
				t.Errorf("error %v, want %q", err, s.err)
			}
			for port, want := range s.answers {
				if got := w.ask(t, port); got != want {
					t.Errorf("port %d: %s, want %s", port, got, want)
				}
			}
			if d := cmp.Diff(before, s.checks); d != "" {
				t.Errorf("the caller's slice was changed:\n%s", d)
			}
		})
	}
	if d := cmp.Diff(map[uint16]int{30001: 1, 30002: 2, 30003: 1, 30004: 1}, w.opened); d != "" {
		t.Errorf("how often ports were opened (-want +got):\n%s", d)
	}
}

// TestListenerBreaks: a port that stopped answering by itself is opened again.
func TestListenerBreaks(t *testing.T) {
	w := newWorld(t)
	all := []HealthCheck{check("a", 30001, 1)}
	if err := w.Set(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	_ = w.listeners[30001].Close()
	w.serving.Wait() // until it was noticed
	if err := w.Set(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if got, want := w.ask(t, 30001), said(200, 1, "a", true); got != want || w.opened[30001] != 2 {
		t.Errorf("%s, opened %d times", got, w.opened[30001])
	}
}

// TestNodePort opens and closes the node's port, beside those of Services.
func TestNodePort(t *testing.T) {
	w := newWorld(t)
	if err := w.Set(t.Context(), []HealthCheck{check("a", 30001, 1)}); err != nil {
		t.Fatal(err)
	}
	const ok, sick = "200 ", "503 "
	for i, step := range []struct {
		open, taken, sick bool
		want, err         string
	}{
		{want: "closed"},
		{open: true, taken: true, want: "closed", err: "health of the node: listen tcp :10256: address already in use"},
		{open: true, want: ok},
		{open: true, sick: true, want: sick},
		{open: true, taken: true, want: ok}, // by us
		{want: "closed"},
		{want: "closed"},
		{open: true, want: ok}, // until the end
	} {
		w.taken[NodePort] = step.taken
		w.healthy.Store(!step.sick)
		err := w.SetNode(t.Context(), step.open)
		if step.err == "" && err != nil || step.err != "" && (err == nil || err.Error() != step.err) {
			t.Errorf("step %d: error %v, want %q", i, err, step.err)
		}
		if got := w.ask(t, NodePort); !strings.HasPrefix(got, step.want) {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	if w.opened[NodePort] != 2 {
		t.Errorf("opened %d times, want 2", w.opened[NodePort])
	}
	if got := w.ask(t, 30001); got != said(200, 1, "a", true) {
		t.Errorf("the Service's port: %s", got)
	}
	if err := w.Set(t.Context(), nil); err != nil {
		t.Error(err)
	}
	_ = w.listeners[NodePort].Close()
	w.serving.Wait() // until it was noticed
	if err := w.SetNode(t.Context(), true); err != nil || w.opened[NodePort] != 3 {
		t.Errorf("after it broke: %v, opened %d times", err, w.opened[NodePort])
	}
}

func TestSetAfterTheEnd(t *testing.T) {
	p := &ports{map[uint16]net.Listener{}, map[uint16]bool{}, map[uint16]int{}}
	s := New(Params{Healthy: func() bool { return true }, Listen: p.listen})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
	err := errors.Join(s.Set(t.Context(), []HealthCheck{check("a", 30001, 1)}), s.SetNode(t.Context(), true))
	if err != nil || len(p.listeners) != 0 {
		t.Errorf("%v, open: %v", err, p.listeners)
	}
}

// TestListen: one socket takes both families.
func TestListen(t *testing.T) {
	l, err := listen(0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Error(err)
			continue
		}
		_ = c.Close()
	}
}

func TestNodeHandler(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const nowText, then = `"2026-01-02T03:04:05Z"`, `"2026-01-02T03:03:05Z"`
	for _, tt := range []struct {
		name, path       string
		healthy, deleted bool
		status           int
		body             string
	}{
		{"healthy", "/healthz", true, false, 200, `{"lastUpdated":` + nowText + `,"currentTime":` + nowText + `,"nodeEligible":true}`},
		{"about to go", "/healthz", true, true, 503, `{"lastUpdated":` + nowText + `,"currentTime":` + nowText + `,"nodeEligible":false}`},
		{"sick", "/healthz", false, false, 503, `{"lastUpdated":` + then + `,"currentTime":` + nowText + `,"nodeEligible":true}`},
		{"alive", "/livez", true, true, 200, `{"lastUpdated":` + nowText + `,"currentTime":` + nowText + `}`},
		{"not alive", "/livez", false, false, 503, `{"lastUpdated":` + then + `,"currentTime":` + nowText + `}`},
		{"elsewhere", "/", true, false, 404, "404 page not found"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := NodeHandler(NodeParams{
				Healthy: func() bool { return tt.healthy }, Deleted: func() bool { return tt.deleted },
				Updated: func() time.Time { return now.Add(-time.Minute) }, Now: func() time.Time { return now },
			})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, tt.path, nil))
			if got := strings.TrimSpace(w.Body.String()); w.Code != tt.status || got != tt.body {
				t.Errorf("%d %s, want %d %s", w.Code, got, tt.status, tt.body)
			}
		})
	}
}
