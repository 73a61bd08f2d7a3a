// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
)

// daemon is a program of the product that serves health and metrics on its node.
type daemon struct{ name, address string }

var (
	agent      = daemon{"agent", "127.0.0.1:10461"}
	controller = daemon{"controller", "127.0.0.1:10462"}
	speaker    = daemon{"speaker", "127.0.0.1:10464"}
)

// get asks the daemon of a node over HTTP.
func (d daemon) get(ctx context.Context, lab *cluster.Lab, node, path string) (string, error) {
	h, err := lab.Host(node)
	if err != nil {
		return "", err
	}
	client := http.Client{
		Transport: &http.Transport{DialContext: h.DialContext, DisableKeepAlives: true},
		Timeout:   5 * time.Second,
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.address+path, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("%s of %s: %w", d.name, node, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	if err != nil {
		return "", fmt.Errorf("%s of %s: %s: %w: %s", d.name, node, path, err, strings.TrimSpace(string(body)))
	}
	return string(body), nil
}

// metrics are the values that a daemon exposes, by series: name and labels.
type metrics map[string]float64

func (d daemon) metrics(ctx context.Context, lab *cluster.Lab, node string) (metrics, error) {
	text, err := d.get(ctx, lab, node, "/metrics")
	if err != nil {
		return nil, err
	}
	m := metrics{}
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		at := strings.LastIndexByte(l, ' ')
		if at < 0 || l[0] == '#' {
			continue
		}
		if m[l[:at]], err = strconv.ParseFloat(l[at+1:], 64); err != nil {
			return nil, fmt.Errorf("metrics of the %s of %s: line %q: %w", d.name, node, l, err)
		}
	}
	return m, nil
}

// sum adds up all series of a metric whose labels contain a text.
func (m metrics) sum(name, labels string) float64 {
	total := 0.0
	for series, value := range m {
		base, have, _ := strings.Cut(series, "{")
		if base == name && strings.Contains(have, labels) {
			total += value
		}
	}
	return total
}

// started is when the agent's process began, in seconds.
func (m metrics) started() float64 { return m.sum("process_start_time_seconds", "") }

// agentStart is when the process of a node's agent began, in seconds.
func agentStart(t *testing.T, lab *cluster.Lab, node string) float64 {
	t.Helper()
	m, err := agent.metrics(t.Context(), lab, node)
	if err != nil {
		t.Fatal(err)
	}
	return m.started()
}

// settled complains until an agent that started after a time is ready, has
// looked at the switch, and has a path to every remote Pod CIDR.
func settled(ctx context.Context, lab *cluster.Lab, node string, after float64) error {
	if _, err := agent.get(ctx, lab, node, "/readyz"); err != nil {
		return err
	}
	m, err := agent.metrics(ctx, lab, node)
	if err != nil {
		return err
	}
	families := len(lab.Topology.PodPrefixes())
	remotes := float64(families * (len(nodeNames(lab)) - 1))
	switch {
	case m.started() <= after:
		return fmt.Errorf("the agent of %s is still the old one", node)
	case m.sum("waymark_openflow_audits_total", "") == 0:
		return fmt.Errorf("the agent of %s has not looked at the switch", node)
	case m.sum("waymark_paths", "") != remotes || m.sum("waymark_paths", `kind="none"`) != 0:
		return fmt.Errorf("the agent of %s has %g paths, %g of them none, want %g", node,
			m.sum("waymark_paths", ""), m.sum("waymark_paths", `kind="none"`), remotes)
	}
	return nil
}
