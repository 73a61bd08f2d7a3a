// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/image"
	"github.com/waymark-net/waymark/test/lab/matrix"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// Namespace is where the Pods of the matrix run.
const Namespace = "probes"

// ProbePath is where hosts of a lab have the probe.
const ProbePath = "/opt/probe"

// sets are the DaemonSets: two, so that every node has a pair of Pods.
var sets = []string{"a", "b"}

// Deploy starts the probes of a lab and waits until they serve. It may be
// called again, after nodes have joined.
func Deploy(ctx context.Context, lab *cluster.Lab) error {
	if err := lab.ApplyObjects(ctx, daemonSets()); err != nil {
		return err
	}
	var names []string
	for _, h := range append(lab.Topology.WithRole(topology.RoleNode), lab.Topology.WithRole(topology.RoleClient)...) {
		names = append(names, h.Name)
	}
	if err := InstallProbe(ctx, lab, names...); err != nil {
		return err
	}
	for _, name := range names {
		if err := serveOn(ctx, lab, name); err != nil {
			return fmt.Errorf("probe on %s: %w", name, err)
		}
	}
	for _, s := range sets {
		if _, err := lab.Kubectl(ctx, "-n", Namespace, "rollout", "status", "daemonset/probe-"+s, "--timeout=120s"); err != nil {
			return err
		}
	}
	return nil
}

func daemonSets() string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n", Namespace)
	for _, s := range sets {
		fmt.Fprintf(&b, `---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: probe-%[1]s, namespace: %[2]s}
spec:
  selector: {matchLabels: {app: probe-%[1]s}}
  template:
    metadata: {labels: {app: probe-%[1]s}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: probe
        image: %[3]s
        imagePullPolicy: IfNotPresent
        args: [serve]
        securityContext: {capabilities: {add: [NET_RAW]}}
`, s, Namespace, image.Probe)
	}
	return b.String()
}

// InstallProbe copies the probe to hosts where it does not run.
func InstallProbe(ctx context.Context, lab *cluster.Lab, names ...string) error {
	program, err := image.BuildProbe(ctx, image.Options{Source: lab.Source})
	if err != nil {
		return err
	}
	for _, name := range names {
		h, err := lab.Host(name)
		if err != nil {
			return err
		}
		runs, err := serves(ctx, h)
		if err == nil && !runs {
			err = InstallProgram(ctx, h, program, ProbePath)
		}
		if err != nil {
			return fmt.Errorf("probe on %s: %w", name, err)
		}
	}
	return nil
}

// InstallProgram copies a program of the machine to a host.
func InstallProgram(ctx context.Context, h *host.Host, program, path string) error {
	file, err := os.Open(program)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = h.Output(ctx, file, "install", "-D", "-m", "755", "/dev/stdin", path)
	return err
}

// serves tells whether the servers of the probe run on a host.
func serves(ctx context.Context, h *host.Host) (bool, error) {
	running, err := h.Processes(ctx)
	return slices.ContainsFunc(running, func(p host.ProcessStatus) bool { return p.Name == "probe" }), err
}

// serveOn starts the servers of the probe on a host.
func serveOn(ctx context.Context, lab *cluster.Lab, name string) error {
	h, err := lab.Host(name)
	if err != nil {
		return err
	}
	if runs, err := serves(ctx, h); err != nil || runs {
		return err
	}
	return h.StartProcess(ctx, host.Process{
		Name: "probe",
		Argv: []string{ProbePath, "serve"},
		Log:  "/var/log/lab/probe.log",
	})
}

// Pod is a Pod of the lab's cluster.
type Pod struct {
	Namespace, Name, Node string
	Addresses             []netip.Addr
}

// Pods lists the Pods of a namespace that a label selector selects and that
// have addresses, by name.
func Pods(ctx context.Context, lab *cluster.Lab, namespace, selector string) ([]Pod, error) {
	out, err := lab.Kubectl(ctx, "-n", namespace, "get", "pods", "-l", selector, "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ NodeName string }
			Status   struct{ PodIPs []struct{ IP netip.Addr } }
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("Pods of namespace %s: %w", namespace, err)
	}
	var pods []Pod
	for _, item := range list.Items {
		pod := Pod{Namespace: namespace, Name: item.Metadata.Name, Node: item.Spec.NodeName}
		for _, ip := range item.Status.PodIPs {
			pod.Addresses = append(pod.Addresses, ip.IP)
		}
		if len(pod.Addresses) > 0 {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods, nil
}

// ExecPod runs a command in a Pod and returns its standard output.
func ExecPod(ctx context.Context, lab *cluster.Lab, pod Pod, stdin []byte, argv ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	err := RunInPod(ctx, lab, pod, Streams{Stdin: bytes.NewReader(stdin), Stdout: &stdout, Stderr: &stderr}, argv...)
	if err != nil {
		return stdout.Bytes(), fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// Streams are those of a command in a Pod.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// RunInPod runs a command in a Pod until it ends.
func RunInPod(ctx context.Context, lab *cluster.Lab, pod Pod, streams Streams, argv ...string) error {
	cp, err := lab.Host(topology.ControlPlane)
	if err != nil {
		return err
	}
	cmd := lab.KubectlCmd(append([]string{"-n", pod.Namespace, "exec", "-i", pod.Name, "--"}, argv...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = streams.Stdin, streams.Stdout, streams.Stderr
	if err := cp.Run(ctx, cmd); err != nil {
		return fmt.Errorf("in Pod %s: %w", pod.Name, err)
	}
	return nil
}

// Endpoints are the ends of the matrix: all Pods, nodes and the client.
func Endpoints(ctx context.Context, lab *cluster.Lab) ([]matrix.Endpoint, error) {
	racks := map[string]string{}
	var out []matrix.Endpoint
	for _, h := range append(lab.Topology.WithRole(topology.RoleNode), lab.Topology.WithRole(topology.RoleClient)...) {
		racks[h.Name] = h.Rack
		end := matrix.Endpoint{Kind: matrix.Node, Name: h.Name, Node: h.Name, Rack: h.Rack, Addresses: h.Addresses()}
		if h.Role == topology.RoleClient {
			end.Kind = matrix.Client
		}
		end.Check = func(ctx context.Context, targets []byte) ([]byte, error) {
			attached, err := lab.Host(h.Name)
			if err != nil {
				return nil, err
			}
			text, err := attached.Output(ctx, bytes.NewReader(targets), ProbePath, "check")
			return []byte(text), err
		}
		out = append(out, end)
	}
	for _, s := range sets {
		pods, err := Pods(ctx, lab, Namespace, "app=probe-"+s)
		if err != nil {
			return nil, err
		}
		for _, pod := range pods {
			out = append(out, matrix.Endpoint{
				Kind: matrix.Pod, Name: s + "@" + pod.Node, Node: pod.Node, Rack: racks[pod.Node], Addresses: pod.Addresses,
				Check: func(ctx context.Context, targets []byte) ([]byte, error) {
					return ExecPod(ctx, lab, pod, targets, "/probe", "check")
				},
			})
		}
	}
	return out, nil
}
