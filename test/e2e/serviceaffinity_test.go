// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/waymark-net/waymark/test/lab/probe/connect"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/report"
)

const (
	stickyNodePort = 31030
	// stickyFor is for how long a client that does not connect keeps its endpoint.
	stickyFor = 2 * time.Second
)

// checkAffinity has clients connect to a Service that keeps each at one
// endpoint: for longer than its timeout as long as they go on to connect, and
// not when they pause for longer than that.
func checkAffinity(t *testing.T, s *services) {
	m := s.add(t, serviceOf("sticky", greetPort, func(spec *corev1.ServiceSpec) {
		atNodes(corev1.ServiceTypeNodePort, stickyNodePort)(spec)
		seconds := int32(stickyFor.Seconds())
		spec.SessionAffinity = corev1.ServiceAffinityClientIP
		spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}), nil, members("b@n1", "b@n2", "b@n3"))
	inside, outside := withPort(m.clusterIPs(t), servicePort), withPort(s.ends["n1"].Addresses, stickyNodePort)
	clients := []client{{podPlace(s, "a@n1"), inside}, {podPlace(s, "a@n2"), inside}, {podPlace(s, "b@n3"), inside}, {hostPlace(s.lab, topology.Client), outside}}
	for _, c := range clients {
		eventually(t, enforced, func(ctx context.Context) error { return answersAll(ctx, t, c) })
	}
	chosen := func(t *testing.T, during time.Duration) map[string]string {
		tr := newTraffic(t)
		for _, c := range clients {
			tr.addConnects(t, c, 10, "-duration", during.String())
		}
		servers := map[string]string{}
		for _, run := range tr.connects {
			for _, r := range run.reports(t) {
				servers[connectionsOf(run.name, r)] = onlyServer(r)
			}
		}
		return servers
	}
	var before map[string]string
	check(t, "kept while in use", func(t *testing.T) {
		before = chosen(t, 3*stickyFor)
		for client, server := range before {
			record(t, report.Check(client+" stays at one endpoint", s.isPod(server), server))
		}
	})
	check(t, "not kept for longer", func(t *testing.T) {
		// A fair choice among three gives each of the eight clients its old
		// endpoint again with one chance in three: all of them, and that twice,
		// once in 43 million runs.
		for range 2 {
			select {
			case <-t.Context().Done():
			case <-time.After(stickyFor + 2*time.Second):
			}
			if after := chosen(t, time.Second); !maps.Equal(before, after) {
				return
			}
		}
		t.Errorf("all clients have the endpoints that they had: %v", before)
	})
}

// isPod tells whether a name is that of a Pod of the matrix.
func (s *services) isPod(name string) bool {
	for _, p := range s.pods {
		if p.Name == name {
			return true
		}
	}
	return false
}

// onlyServer is who answered all connections, or in words why that is nobody.
func onlyServer(r connect.Report) string {
	if r.Failed > 0 || len(r.Servers) != 1 {
		return fmt.Sprintf("%d of %d connections failed, answers of %v %v", r.Failed, r.Made, r.Servers, firstFailure(r))
	}
	return slices.Collect(maps.Keys(r.Servers))[0]
}
