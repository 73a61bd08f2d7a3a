// SPDX-License-Identifier: Apache-2.0

package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/waymark-net/waymark/internal/enforce"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/flows"
	"github.com/waymark-net/waymark/policy/stream"
	"github.com/waymark-net/waymark/policy/stream/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func report() enforce.Report {
	web := policy.Key{Namespace: "shop", Name: "web"}
	return enforce.Report{
		Known: true,
		Rules: []enforce.RuleReport{{
			Rule: flows.Rule{
				Number: 7, Tier: policy.TierAdmin, Direction: policy.Egress, Action: policy.Deny,
				Refs: []flows.RuleRef{{Policy: policy.Key{Kind: policy.ClusterNetworkPolicy, Name: "all"}, Index: 2, Name: "no"}, {Policy: web}},
			},
			RuleCount: flows.RuleCount{Packets: 3, Bytes: 300, Sessions: 1},
		}},
		Pods: []enforce.PodReport{{
			PodStatus: flows.PodStatus{
				LocalPod: flows.LocalPod{Port: 12, Pod: policy.PodKey{Namespace: "shop", Name: "a"}, UID: "u"},
				Held:     true, Isolated: [policy.Directions]bool{policy.Egress: true},
			},
			Denied:  [policy.Directions]flows.DeniedCount{policy.Ingress: {Packets: 1, Bytes: 2}, policy.Egress: {Packets: 3, Bytes: 4}},
			Adopted: true,
		}},
	}
}

func TestPolicy(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	lost := errors.New("connection lost")
	for name, tc := range map[string]struct {
		report enforce.Report
		status stream.Status
		want   string
	}{
		"nothing": {want: `{"known": false, "controller": {"connected": false}, "problems": [], "rules": [], "pods": []}`},
		"all": {
			report: report(),
			status: stream.Status{
				Known: true, Since: since, Controller: netip.MustParseAddrPort("10.1.1.1:10463"), Err: lost,
				Problems: []wire.Problem{{Policy: policy.Key{Namespace: "shop", Name: "new"}, Reason: "what is this"}},
			},
			want: `{
				"known": true,
				"controller": {"connected": false, "since": "2026-01-02T03:04:05Z", "address": "10.1.1.1:10463", "error": "connection lost"},
				"problems": [{"policy": "NetworkPolicy shop/new", "reason": "what is this"}],
				"rules": [{
					"number": 7, "tier": "Admin", "direction": "Egress", "action": "Deny", "packets": 3, "bytes": 300, "sessions": 1,
					"of": [{"kind": "ClusterNetworkPolicy", "policy": "all", "rule": 2, "name": "no"}, {"kind": "NetworkPolicy", "namespace": "shop", "policy": "web", "rule": 0}]
				}],
				"pods": [{
					"namespace": "shop", "name": "a", "uid": "u", "port": 12, "held": true, "adopted": true, "isolated": ["Egress"],
					"denied": {"Ingress": {"packets": 1, "bytes": 2}, "Egress": {"packets": 3, "bytes": 4}}
				}]
			}`,
		},
		"an error of before": {
			status: stream.Status{Connected: true, Since: since, Controller: netip.MustParseAddrPort("10.1.1.1:10463"), Err: lost},
			want: `{"known": false, "problems": [], "rules": [], "pods": [],
				"controller": {"connected": true, "since": "2026-01-02T03:04:05Z", "address": "10.1.1.1:10463"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Params{
				Report: func(context.Context) (enforce.Report, error) { return tc.report, nil },
				Status: func() stream.Status { return tc.status },
			})
			w := httptest.NewRecorder()
			s.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/policy", nil))
			var got, want any
			if err := errors.Join(json.Unmarshal(w.Body.Bytes(), &got), json.Unmarshal([]byte(tc.want), &want)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" || w.Code != http.StatusOK {
				t.Errorf("status %d, document (-want +got):\n%s", w.Code, d)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	s := New(Params{
		Report: func(context.Context) (enforce.Report, error) { return enforce.Report{}, errors.New("no switch") },
		Status: func() stream.Status { return stream.Status{} },
	})
	for _, tc := range []struct {
		method, path string
		status       int
		body         string
	}{
		{http.MethodGet, "/policy", http.StatusServiceUnavailable, "no switch"},
		{http.MethodPost, "/policy", http.StatusMethodNotAllowed, ""},
		{http.MethodGet, "/", http.StatusNotFound, ""},
	} {
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, nil))
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.body) {
			t.Errorf("%s %s: %d %q, want %d with %q", tc.method, tc.path, w.Code, w.Body, tc.status, tc.body)
		}
	}
}

func TestRun(t *testing.T) {
	dir, err := os.MkdirTemp("", "wm-api") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "agent.sock")
	s := New(Params{
		Socket: socket,
		Report: func(context.Context) (enforce.Report, error) { return report(), nil },
		Status: func() stream.Status { return stream.Status{} },
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for {
			c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
			if err == nil || ctx.Err() != nil {
				return c, err
			}
		}
	}}}
	response, err := client.Get("http://agent/policy")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil || !strings.Contains(string(body), `"policy": "web"`) {
		t.Errorf("%v: answer %s", err, body)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket is not root's alone: %v, %v", info, err)
	}
	over := errors.New("over")
	cancel(over)
	if err := <-done; !errors.Is(err, over) {
		t.Errorf("Run returned %v, want the cause of its context", err)
	}
	s.params.Socket = filepath.Join(socket, "below")
	if err := s.Run(t.Context()); err == nil || !strings.Contains(fmt.Sprint(err), "listen for local requests") {
		t.Errorf("a socket that cannot be: %v", err)
	}
}
