// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/matrix"
	"github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/report"
)

const (
	webName = "web"
	webPort = 80
	// WebNodePort is where the Service web is at every node.
	WebNodePort = 30080
)

// webDeadline bounds how long the Service and its name may take to work.
const webDeadline = 15 * time.Second

// DeployWeb makes the Service web in front of one DaemonSet of the probes.
func DeployWeb(ctx context.Context, lab *cluster.Lab) error {
	return lab.ApplyObjects(ctx, fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: probe-%s}
  ports: [{port: %d, targetPort: 8080, nodePort: %d}]
`, webName, Namespace, sets[0], webPort, WebNodePort))
}

// webSource is who uses the Service web, and how.
type webSource struct {
	from    matrix.Endpoint
	targets []check.Target
}

// CheckWeb looks up the Service web by its name in a Pod, and asks for its page
// from the Pod, from a node and from the client outside, in every family. Every
// row says what was tried; one that does not hold says why.
func CheckWeb(ctx context.Context, lab *cluster.Lab) ([]report.Row, error) {
	out, err := lab.Kubectl(ctx, "-n", Namespace, "get", "service", webName, "-o", "jsonpath={.spec.clusterIPs[*]}")
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for text := range strings.FieldsSeq(out) {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("Service %s: %w", webName, err)
		}
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	ends, err := Endpoints(ctx, lab)
	if err != nil {
		return nil, err
	}
	sources, err := webSources(lab, ends, addrs)
	if err != nil {
		return nil, err
	}
	rows := make([][]report.Row, len(sources))
	var group sync.WaitGroup
	for i, s := range sources {
		group.Go(func() { rows[i] = s.check(ctx, addrs) })
	}
	group.Wait()
	return slices.Concat(rows...), nil
}

// webSources are a Pod, its node and the client.
func webSources(lab *cluster.Lab, ends []matrix.Endpoint, addrs []netip.Addr) ([]webSource, error) {
	find := func(kind matrix.Kind) (matrix.Endpoint, error) {
		at := slices.IndexFunc(ends, func(e matrix.Endpoint) bool { return e.Kind == kind })
		if at < 0 {
			return matrix.Endpoint{}, fmt.Errorf("no %s to ask", kind)
		}
		return ends[at], nil
	}
	pod, podErr := find(matrix.Pod)
	node, nodeErr := find(matrix.Node)
	client, clientErr := find(matrix.Client)
	if err := errors.Join(podErr, nodeErr, clientErr); err != nil {
		return nil, err
	}
	names := []check.Target{{Name: "the name " + webName, Protocol: check.DNS, Lookup: webName, Millis: 1000}}
	for _, a := range lab.ClusterDNS() {
		names = append(names, check.Target{
			Name: "its whole name at " + a.String(), Protocol: check.DNS,
			Lookup: webName + "." + Namespace + ".svc.cluster.local.", Address: a, Millis: 1000,
		})
	}
	var inside, outside []check.Target
	for _, a := range addrs {
		inside = append(inside, webTarget("ClusterIP", a, webPort))
	}
	for _, h := range lab.Topology.WithRole(topology.RoleNode) {
		for _, a := range h.Addresses() {
			outside = append(outside, webTarget("NodePort of "+h.Name, a, WebNodePort))
		}
	}
	return []webSource{{pod, append(names, inside...)}, {node, inside}, {client, outside}}, nil
}

func webTarget(name string, a netip.Addr, port uint16) check.Target {
	family := "IPv6"
	if a.Is4() {
		family = "IPv4"
	}
	return check.Target{Name: webName + " at " + name + ", " + family, Protocol: check.HTTP, Address: a, Port: port, Millis: 1000}
}

// check asks until everything works, or time is over.
func (s webSource) check(ctx context.Context, addrs []netip.Addr) []report.Row {
	var results []check.Result
	err := cluster.Until(ctx, webDeadline, func(ctx context.Context) error {
		latest, err := s.from.Ask(ctx, s.targets...)
		if err != nil {
			return err
		}
		results = latest
		var errs []error
		for i := range results {
			errs = append(errs, judgeWeb(&results[i], s.targets[i], addrs))
		}
		return errors.Join(errs...)
	})
	var rows []report.Row
	for i, target := range s.targets {
		name := fmt.Sprintf("%s from %s (%s)", target.Name, s.from.Name, s.from.Kind)
		if results == nil {
			rows = append(rows, report.Check(name, false, err.Error()))
			continue
		}
		r := results[i]
		note := fmt.Sprintf("%s %s: %s", r.Host, r.Reason, r.Error)
		if r.OK && target.Protocol == check.DNS {
			note = fmt.Sprint(r.Addresses)
		} else if r.OK {
			note = fmt.Sprintf("%s answered %s", r.Host, r.Client.Addr())
		}
		rows = append(rows, report.Check(name, r.OK, strings.TrimSpace(note)))
	}
	return rows
}

// judgeWeb fails a name with other addresses than those of the Service, and
// complains of what failed.
func judgeWeb(r *check.Result, target check.Target, addrs []netip.Addr) error {
	if r.OK && target.Protocol == check.DNS && !slices.Equal(r.Addresses, addrs) {
		r.OK, r.Reason, r.Error = false, check.Wrong, fmt.Sprintf("%s instead of %s", r.Addresses, addrs)
	}
	if !r.OK {
		return fmt.Errorf("%s: %s", r.Name, r.Error)
	}
	return nil
}
