// SPDX-License-Identifier: Apache-2.0

package localapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/service"
)

func servicesReport() ServicesReport {
	endpoint := func(at, node string, ready, serving, terminating bool) service.Endpoint {
		return service.Endpoint{AddrPort: netip.MustParseAddrPort(at), Node: node, Ready: ready, Serving: serving, Terminating: terminating}
	}
	web := service.Service{
		Key:             service.Key{Namespace: "shop", Name: "web"},
		ClusterIPs:      []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:96::10")},
		ExternalIPs:     []netip.Addr{netip.MustParseAddr("203.0.113.1")},
		LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("203.0.113.2")},
		Ports: []service.Port{{
			Protocol: service.TCP, Port: 80, NodePort: 30080,
			Endpoints: []service.Endpoint{
				endpoint("10.10.1.2:8080", "n1", false, true, true),
				endpoint("10.10.1.2:8080", "n1", true, true, false), // the better of two
				endpoint("10.10.1.3:8080", "n1", false, true, true),
				endpoint("10.10.2.2:8080", "n2", true, true, false),
				endpoint("10.10.2.3:8080", "", false, false, true),
				endpoint("[fd10::2]:8080", "n2", false, true, false),
			},
		}},
	}
	unready := service.Service{Key: service.Key{Namespace: "shop", Name: "unready"}, PublishNotReady: true, ClusterIPs: web.ClusterIPs[:1], Ports: []service.Port{{
		Protocol: service.UDP, Port: 53, Endpoints: []service.Endpoint{endpoint("10.10.1.4:53", "n1", false, false, false)},
	}}}
	return ServicesReport{Mode: "All", Known: true, Node: "n1", Count: 2, Services: []ServiceReport{
		{Service: service.Service{Key: service.Key{Namespace: "default", Name: "web"}}, Problems: []string{"one", "two"}},
		{Service: unready},
		{Service: web},
	}}
}

func TestServices(t *testing.T) {
	const (
		bad = `{"namespace": "default", "name": "web", "problems": ["one", "two"], "addresses": [], "ports": []}`
		web = `{"namespace": "shop", "name": "web", "problems": [], "addresses": ["10.96.0.10", "fd00:96::10", "203.0.113.1", "203.0.113.2"],
			"ports": [{"protocol": "TCP", "port": 80, "nodePort": 30080,
				"ipv4": {"total": 4, "ready": 2, "terminating": 1, "local": 2}, "ipv6": {"total": 1, "ready": 0, "terminating": 0, "local": 0}}]}`
		unready = `{"namespace": "shop", "name": "unready", "problems": [], "addresses": ["10.96.0.10"],
			"ports": [{"protocol": "UDP", "port": 53,
				"ipv4": {"total": 1, "ready": 1, "terminating": 0, "local": 1}, "ipv6": {"total": 0, "ready": 0, "terminating": 0, "local": 0}}]}`
	)
	all := func(services string) string {
		return `{"mode": "All", "known": true, "count": 2, "services": [` + services + `]}`
	}
	for _, tc := range []struct {
		path   string
		report ServicesReport
		only   service.Key
		want   string
	}{
		{"/services", ServicesReport{}, service.Key{}, `{"mode": "", "known": false, "count": 0, "services": []}`},
		{"/services", servicesReport(), service.Key{}, all(bad)},
		{"/services?namespace=shop", servicesReport(), service.Key{Namespace: "shop"}, all(unready + "," + web)},
		{"/services?name=web", servicesReport(), service.Key{Name: "web"}, all(bad + "," + web)},
		{"/services?namespace=shop&name=web", servicesReport(), service.Key{Namespace: "shop", Name: "web"}, all(web)},
		{"/services?namespace=none", servicesReport(), service.Key{Namespace: "none"}, all("")},
	} {
		t.Run(tc.path, func(t *testing.T) {
			var only service.Key
			s := New(Params{Services: func(k service.Key) ServicesReport { only = k; return tc.report }})
			w := httptest.NewRecorder()
			s.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, tc.path, nil))
			var got, want any
			if err := errors.Join(json.Unmarshal(w.Body.Bytes(), &got), json.Unmarshal([]byte(tc.want), &want)); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" || w.Code != http.StatusOK || only != tc.only || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("status %d, asked for %v, document (-want +got):\n%s", w.Code, only, d)
			}
		})
	}
}
