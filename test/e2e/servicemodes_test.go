// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/config"
)

// checkServiceModes gives the Services to kube-proxy and takes them back, as the
// user guide has it. Whoever serves them, Service "one" answers everybody at
// every kind of address, and what a Pod sends through a ClusterIP stays whole as
// long as Waymark serves those.
func checkServiceModes(t *testing.T, s *services, all map[string]placed) {
	lab := s.lab
	t.Cleanup(func() {
		for _, node := range nodeNames(lab) {
			if err := lab.StopKubeProxy(context.WithoutCancel(t.Context()), node); err != nil {
				t.Error(err)
			}
		}
	})
	served := func(t *testing.T) {
		t.Helper()
		uses := usesOfOne(t, s, all, everybody)
		for i, u := range uses {
			uses[i].exchanges = slices.DeleteFunc(u.exchanges, func(e exchange) bool { return e.want != isAnswered })
			for j := range uses[i].exchanges {
				uses[i].exchanges[j].seen = nil // each has addresses of its own for this
			}
		}
		checkUses(t, s, uses...)
	}
	m := s.add(t, serviceOf("mode-stream", streamPort, nil), nil, members("b@n1"))
	tr := newTraffic(t)
	tr.streamsThrough(t, []client{{podPlace(s, "a@n2"), withPort(m.clusterIPs(t), servicePort)}})
	besideKubeProxy := func(mode config.ServicesMode) {
		check(t, string(mode)+" beside kube-proxy", func(t *testing.T) {
			serviceMode(t, s, mode)
			for _, node := range nodeNames(lab) {
				eventually(t, enforced, func(ctx context.Context) error { return nothingOnHost(ctx, s, node) })
				if err := lab.StartKubeProxy(t.Context(), node); err != nil {
					t.Fatal(err)
				}
			}
			served(t)
		})
	}
	besideKubeProxy(config.ServicesClusterIPOnly)
	check(t, "All beside kube-proxy", func(t *testing.T) {
		serviceMode(t, s, config.ServicesAll)
		for _, node := range nodeNames(lab) {
			eventually(t, time.Minute, func(ctx context.Context) error { return kubeProxyFound(ctx, s, node, true) })
		}
		served(t)
	})
	check(t, "All without kube-proxy", func(t *testing.T) {
		for _, node := range nodeNames(lab) {
			if err := lab.StopKubeProxy(t.Context(), node); err != nil {
				t.Fatal(err)
			}
			eventually(t, time.Minute, func(ctx context.Context) error { return kubeProxyFound(ctx, s, node, false) })
		}
		served(t)
	})
	check(t, "streams through a ClusterIP", func(t *testing.T) { tr.end(t, 0) })
	besideKubeProxy(config.ServicesDisabled)
	check(t, "back to All", func(t *testing.T) {
		for _, node := range nodeNames(lab) {
			if err := lab.StopKubeProxy(t.Context(), node); err != nil {
				t.Fatal(err)
			}
		}
		serviceMode(t, s, config.ServicesAll)
		served(t)
	})
}

// serviceMode changes services.mode and waits until it is in force everywhere.
func serviceMode(t *testing.T, s *services, mode config.ServicesMode) {
	t.Helper()
	switchMode(t, s.lab, variant{"services", "noEncap", map[string]string{"services.mode": string(mode)}})
}

// nothingOnHost complains about what leads packets of the node to Services.
func nothingOnHost(ctx context.Context, s *services, node string) error {
	out, err := s.lab.Exec(ctx, node, "sh", "-ec",
		`ip -4 route show proto 88; ip -6 route show proto 88; nft list tables | grep waymark-services || true`)
	if err == nil && strings.TrimSpace(out) != "" {
		err = fmt.Errorf("%s has %q", node, out)
	}
	return err
}

// kubeProxyFound complains unless the agent of a node says that there are rules
// of kube-proxy, or that there are none.
func kubeProxyFound(ctx context.Context, s *services, node string, want bool) error {
	series, value := "waymark_service_kube_proxy_found", 0.0
	if want {
		value = 1
	}
	values, err := agent.metrics(ctx, s.lab, node)
	if err != nil {
		return err
	}
	if values[series] != value {
		err = fmt.Errorf("%s of %s is %v, want %v", series, node, values[series], value)
	}
	if want {
		err = errors.Join(err, eventSays(ctx, s.lab, "default", "Node/"+node, "KubeProxyFound", "kube-proxy --cleanup"))
	}
	return err
}
