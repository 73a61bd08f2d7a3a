// SPDX-License-Identifier: Apache-2.0

package httpserver

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestHandler(t *testing.T) {
	registry := prometheus.NewRegistry()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "waymark_test"})
	registry.MustRegister(gauge)
	notReady := errors.New("waiting for the switch")
	tests := []struct {
		name, method, path string
		ready              error
		status             int
		body               string
	}{
		{"alive although not ready", http.MethodGet, "/healthz", notReady, http.StatusOK, "ok"},
		{"not ready", http.MethodGet, "/readyz", notReady, http.StatusServiceUnavailable, "waiting for the switch"},
		{"ready", http.MethodGet, "/readyz", nil, http.StatusOK, "ok"},
		{"metrics", http.MethodGet, "/metrics", nil, http.StatusOK, "waymark_test 0"},
		{"writing", http.MethodPost, "/healthz", nil, http.StatusMethodNotAllowed, ""},
		{"elsewhere", http.MethodGet, "/", nil, http.StatusNotFound, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := handler(Params{Ready: func() error { return test.ready }, Gatherer: registry})
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(test.method, test.path, nil))
			if w.Code != test.status || !strings.Contains(w.Body.String(), test.body) {
				t.Errorf("%s %s: %d %q, want %d with %q", test.method, test.path, w.Code, w.Body, test.status, test.body)
			}
		})
	}
}
