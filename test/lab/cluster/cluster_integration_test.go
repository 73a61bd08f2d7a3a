// SPDX-License-Identifier: Apache-2.0

//go:build integration

package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/image"
	"github.com/waymark-net/waymark/test/lab/imagestore/handmade"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// killedLab, in the environment, makes the test program start that lab and
// nothing else, for a test that kills it.
const killedLab = "WAYMARK_TEST_KILLED_LAB"

func TestMain(m *testing.M) {
	host.Main()
	if name := os.Getenv(killedLab); name != "" {
		d := Default(name)
		d.Progress = os.Stdout
		if _, err := Up(context.Background(), d); err != nil {
			fmt.Println(err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	kubeletPort = "10250"
	patience    = time.Minute
)

func labName() string { return fmt.Sprintf("t%d", time.Now().UnixNano()%1e9) }

// cleanUp removes the lab at the end and checks that nothing is left.
func cleanUp(t *testing.T, name string) {
	t.Helper()
	t.Cleanup(func() {
		if err := Down(context.Background(), name); err != nil {
			t.Errorf("Down: %v", err)
		}
		for _, pattern := range []string{
			"/run/netns/waymark." + name + ".*", "/sys/fs/cgroup/waymark-lab/" + name, "/sys/fs/cgroup/*/waymark-lab/" + name,
			filepath.Join(stateRoot, name+"*"), filepath.Join(dataRoot, name),
		} {
			if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || bytes.Contains(mounts, []byte(name)) {
			t.Errorf("mounts left (%v)", err)
		}
		commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Error(err)
		}
		for _, path := range commands {
			// A process that ends meanwhile is not left.
			if line, err := os.ReadFile(path); err == nil && bytes.Contains(line, []byte("\x00"+name+"\x00")) {
				t.Errorf("process left: %q", line)
			}
		}
	})
}

func start(t *testing.T, d Description) *Lab {
	t.Helper()
	cleanUp(t, d.Name)
	var out strings.Builder
	d.Progress = &out
	l, err := Up(t.Context(), d)
	if err != nil {
		t.Fatalf("Up: %v\n%s", err, out.String())
	}
	t.Log(out.String())
	return l
}

// reach opens a connection from one host to the kubelet of a node.
func reach(ctx context.Context, l *Lab, from, node string) error {
	h, _ := l.Topology.Host(node)
	for _, a := range h.Addresses() {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		conn, err := l.attach(from).DialContext(ctx, "tcp", "["+a.String()+"]:"+kubeletPort)
		cancel()
		if err != nil {
			return fmt.Errorf("from %s to %s: %w", from, a, err)
		}
		_ = conn.Close()
	}
	return nil
}

func eventually(t *testing.T, what string, ask func(ctx context.Context) error) {
	t.Helper()
	if err := Until(t.Context(), patience, ask); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// probeImage is an archive of the probe, which serves as sandbox image.
func probeImage(t *testing.T) string {
	t.Helper()
	source, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := image.BuildProbe(t.Context(), image.Options{Source: source})
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "probe.tar")
	err = handmade.Write(path, handmade.Image{Name: image.Probe, Files: map[string][]byte{"probe": data}, Entrypoint: []string{"/probe", "pause"}})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

const hostPod = `apiVersion: v1
kind: Pod
metadata: {name: probe}
spec:
  hostNetwork: true
  nodeName: n3
  terminationGracePeriodSeconds: 5
  tolerations: [{operator: Exists}]
  containers:
  - {name: probe, image: "` + image.Probe + `", imagePullPolicy: Never, securityContext: {privileged: true}}
`

func TestLab(t *testing.T) {
	d := Default(labName())
	d.Network.DualHomed = true
	d.Images = []string{probeImage(t)}
	started := start(t, d)
	l, err := Open(d.Name, nil) // as another process would
	if err != nil {
		t.Fatal(err)
	}
	if l.KubeConfig() != started.KubeConfig() {
		t.Errorf("KubeConfig: %q and %q", l.KubeConfig(), started.KubeConfig())
	}
	for _, node := range []string{"n1", "n2", "n3"} {
		for _, from := range []string{"client", "cp", "n1"} {
			eventually(t, "kubelet", func(ctx context.Context) error { return reach(ctx, l, from, node) })
		}
	}
	// Each in its own lines: they change the lab one after the other.
	t.Run("nodes have their own credentials", func(t *testing.T) {
		kubectl := []string{host.BinDir + "/kubectl", "--kubeconfig=/etc/kubernetes/kubelet.conf"}
		if _, err := l.Exec(t.Context(), "n1", append(kubectl, "label", "node", "n1", "x=y")...); err != nil {
			t.Error(err)
		}
		_, err := l.Exec(t.Context(), "n1", append(kubectl, "label", "node", "n2", "x=y")...)
		if err == nil || !strings.Contains(err.Error(), "forbidden") {
			t.Errorf("n1 labels n2: %v", err)
		}
	})
	t.Run("a pod runs", func(t *testing.T) { testPod(t, l) })
	t.Run("capture", func(t *testing.T) { testCapture(t, l) })
	t.Run("failures", func(t *testing.T) { testFailures(t, l) })
	t.Run("nodes come and go", func(t *testing.T) { testJoin(t, l) })
	t.Run("collect", func(t *testing.T) { testCollect(t, l) })
}

func testPod(t *testing.T, l *Lab) {
	eventually(t, "create", func(ctx context.Context) error { return l.ApplyObjects(ctx, hostPod) })
	if _, err := l.Kubectl(t.Context(), "wait", "--for=condition=Ready", "pod/probe", "--timeout=60s"); err != nil {
		described, _ := l.Kubectl(t.Context(), "describe", "pod", "probe")
		t.Fatalf("%v\n%s", err, described)
	}
	out, err := l.Kubectl(t.Context(), "exec", "probe", "--", "/probe", "check", "--help")
	if !strings.Contains(fmt.Sprint(out, err), "usage") {
		t.Errorf("exec: %q, %v", out, err)
	}
	if _, err := l.Kubectl(t.Context(), "logs", "probe"); err != nil {
		t.Errorf("logs: %v", err)
	}
	if _, err := l.Kubectl(t.Context(), "delete", "pod", "probe"); err != nil {
		t.Error(err)
	}
}

func testCapture(t *testing.T, l *Lab) {
	c, err := l.Capture(t.Context(), "n3-rackB", "tcp port "+kubeletPort)
	if err != nil {
		t.Fatal(err)
	}
	if err := reach(t.Context(), l, "client", "n3"); err != nil {
		t.Error(err)
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	for _, family := range []string{"ip", "ip6"} {
		packets, err := c.Packets(t.Context(), family)
		if err != nil || len(packets) < 3 {
			t.Errorf("%s: %q, %v", family, packets, err)
		}
	}
	if packets, err := c.Packets(t.Context(), "udp"); err != nil || len(packets) != 0 {
		t.Errorf("udp: %q, %v", packets, err)
	}
	if _, err := l.Capture(t.Context(), "n3-spine"); err == nil {
		t.Error("no such link: no error")
	}
	if _, err := l.Capture(t.Context(), "n3:eth7"); err == nil || !strings.Contains(err.Error(), "eth7") {
		t.Errorf("no such interface: %v", err)
	}
}

func testFailures(t *testing.T, l *Lab) {
	fail := func(kind string, args ...string) {
		t.Helper()
		if err := l.Fail(t.Context(), kind, args...); err != nil {
			t.Fatal(err)
		}
	}
	reached := func(what string) {
		t.Helper()
		eventually(t, what, func(ctx context.Context) error { return reach(ctx, l, "client", "n3") })
	}
	cut := func(what string) {
		t.Helper()
		eventually(t, what, func(ctx context.Context) error {
			if reach(ctx, l, "client", "n3") == nil {
				return fmt.Errorf("still reached")
			}
			return nil
		})
	}
	fail("link-down", "torB-spine")
	reached("one of two links down")
	fail("link-down", "torB2-spine")
	cut("both links down")
	fail("link-up", "torB-spine")
	fail("link-up", "torB2-spine")
	reached("links up")

	fail("blackhole", "spine", "172.30.2.0/24")
	cut("black hole")
	fail("heal", "spine")
	reached("healed")

	fail("kill-daemon", "torB", "bgpd")
	reached("one bgpd killed")
	fail("start-daemon", "torB", "bgpd")
	fail("restart-daemon", "torB", "zebra")
	eventually(t, "sessions after restart", l.waitRouters)

	fail("kill-router", "torB")
	reached("one router killed")
	fail("start-router", "torB")
	eventually(t, "sessions after start", l.waitRouters)
	if err := l.Fail(t.Context(), "start-router", "torB"); err == nil {
		t.Error("start of a running router: no error")
	}

	fail("kill-node", "n3")
	cut("node killed")
	fail("start-node", "n3")
	reached("node started")
}

func testJoin(t *testing.T, l *Lab) {
	if err := l.AddNode(t.Context(), "extra", "A"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new node", func(ctx context.Context) error { return reach(ctx, l, "client", "extra") })
	if err := l.RemoveNode(t.Context(), "extra"); err != nil {
		t.Fatal(err)
	}
	nodes, err := l.Kubectl(t.Context(), "get", "nodes")
	if err != nil || strings.Contains(nodes, "extra") {
		t.Errorf("nodes: %s, %v", nodes, err)
	}
	if again, err := Open(l.Description.Name, nil); err != nil || len(again.Topology.WithRole(topology.RoleNode)) != 3 {
		t.Errorf("recorded: %v", err)
	}
}

func testCollect(t *testing.T, l *Lab) {
	dir := t.TempDir()
	if err := l.Collect(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"cluster/nodes.txt":      "PodCIDRs",
		"n1/routes.txt":          "default",
		"n1/log/lab/kubelet.log": "kubelet",
		"torA/bgp-ipv6.txt":      "fd30:0:0:2::/64",
		"cp/log/etcd.log":        "",
	} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s: %v\n%s", file, err, data)
		}
	}
}

// Labs of other families run at the same time, with the same addresses.
func TestFamilies(t *testing.T) {
	for _, families := range []topology.Families{topology.IPv4, topology.IPv6} {
		t.Run(string(families), func(t *testing.T) {
			t.Parallel()
			d := Default(labName() + string(families))
			d.Network.Families, d.Network.Nodes, d.Network.Racks = families, 1, 1
			l := start(t, d)
			eventually(t, "kubelet", func(ctx context.Context) error { return reach(ctx, l, "client", "n1") })
			cidrs, err := l.Kubectl(t.Context(), "get", "node", "n1", "-o", "jsonpath={.spec.podCIDRs[*]}")
			prefix, parseErr := netip.ParsePrefix(cidrs)
			if err != nil || parseErr != nil || !families.Has(prefix.Addr()) {
				t.Errorf("Pod CIDRs %q, %v, %v", cidrs, err, parseErr)
			}
		})
	}
}

// Whenever the start is killed, what is left can be removed, and started over.
func TestKilledStart(t *testing.T) {
	name := labName()
	cleanUp(t, name)
	for _, step := range []string{"starting hosts", "connecting hosts", "starting the control plane", "starting nodes"} {
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), killedLab+"="+name)
		seen := newFirstLine(step)
		cmd.Stdout = seen
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-seen.seen:
		case <-time.After(patience):
			t.Errorf("step %q not seen:\n%s", step, seen.text())
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
	}
	d := Default(name)
	d.Network.Nodes, d.Network.Racks = 1, 1
	if _, err := Up(t.Context(), d); err != nil {
		t.Errorf("Up over what was killed: %v", err)
	}
}
