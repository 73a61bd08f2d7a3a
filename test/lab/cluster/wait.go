// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/waymark-net/waymark/test/lab/topology"
)

const (
	apiDeadline      = 3 * time.Minute
	registerDeadline = 3 * time.Minute
	sessionDeadline  = time.Minute
)

// Until asks again and again until there is no complaint. When time is over,
// the last complaint is the error.
func Until(ctx context.Context, limit time.Duration, ask func(context.Context) error) error {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		// One that was cut short only says so, perhaps before ctx does.
		if last == nil || time.Since(begin) < limit {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up after %s: %w", time.Since(begin).Round(time.Second), last)
		case <-ticker.C:
		}
	}
}

func (l *Lab) clientset() (*kubernetes.Clientset, error) {
	config, err := l.RESTConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func (l *Lab) waitAPI(ctx context.Context) error {
	client, err := l.clientset()
	if err != nil {
		return err
	}
	return Until(ctx, apiDeadline, func(ctx context.Context) error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

// waitRegistered waits until the nodes have their objects and Pod CIDRs.
func (l *Lab) waitRegistered(ctx context.Context, nodes []topology.Host) error {
	client, err := l.clientset()
	if err != nil {
		return err
	}
	want := len(l.Topology.PodPrefixes())
	return Until(ctx, registerDeadline, func(ctx context.Context) error {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		cidrs := map[string]int{}
		for _, n := range list.Items {
			cidrs[n.Name] = len(n.Spec.PodCIDRs)
		}
		var missing []string
		for _, h := range nodes {
			if cidrs[h.Name] < want {
				missing = append(missing, fmt.Sprintf("%s (log %s)", h.Name, l.logPath(h, l.node(h).Kubelet())))
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("not registered with %d Pod CIDRs: %s", want, strings.Join(missing, ", "))
		}
		return nil
	})
}

// waitRouters waits for the sessions between routers.
func (l *Lab) waitRouters(ctx context.Context) error {
	return forEach(l.Topology.WithRole(topology.RoleToR, topology.RoleSpine), func(h topology.Host) error {
		return Until(ctx, sessionDeadline, func(ctx context.Context) error {
			out, err := l.Vtysh(ctx, h.Name, "show bgp summary json")
			if err != nil {
				return err
			}
			return sessionsUp([]byte(out))
		})
	})
}

// sessionsUp reads FRR's summary of BGP sessions and complains about those
// that are not established.
func sessionsUp(summary []byte) error {
	var families map[string]struct {
		Peers map[string]struct {
			State string `json:"state"`
		} `json:"peers"`
	}
	if err := json.Unmarshal(summary, &families); err != nil {
		return fmt.Errorf("read summary of BGP sessions: %w", err)
	}
	total := 0
	for family, f := range families {
		for address, peer := range f.Peers {
			total++
			if peer.State != "Established" {
				return fmt.Errorf("BGP session with %s for %s is %s", address, family, peer.State)
			}
		}
	}
	if total == 0 {
		return fmt.Errorf("no BGP sessions")
	}
	return nil
}
