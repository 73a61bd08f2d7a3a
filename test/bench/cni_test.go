// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

const (
	// oneByOne is how many Pods of a round are attached one at a time, together
	// how many are at once, full how many a node usually holds.
	oneByOne = 40
	together = 50
	full     = 110

	cniLoad    = "/opt/bench/cniload"
	pluginsDir = "/opt/bench/plugins"
	// installedDir and installedConf are the product's.
	installedDir  = "/opt/cni/bin"
	installedConf = "/etc/cni/net.d/05-waymark.conflist"
)

// bridgePlugin is a usual configuration of the bridge plugin, in two families.
const bridgePlugin = `{
  "type": "bridge", "bridge": "bench0", "isGateway": true,
  "ipam": {
    "type": "host-local", "dataDir": "/run/bench-ipam",
    "ranges": [[{"subnet": "10.99.0.0/16"}], [{"subnet": "fd99::/64"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
  }
}`

// request is one kind of CNI request: to a plugin alone or to the whole list of
// plugins that is installed with the product, alone or among many requests.
type request struct {
	plugin, command string
	chained, atOnce bool
}

// suffix tells requests of one command apart in the report.
func (r request) suffix() string {
	out := ""
	if r.chained {
		out += " chained"
	}
	if r.atOnce {
		out += fmt.Sprintf(" %d at once", together)
	}
	return out
}

func configOf(plugin string, chained bool) string {
	if chained {
		plugin += "-chained"
	}
	return "/etc/bench/" + plugin + ".conflist"
}

// cniTimes is what cniload prints.
type cniTimes struct {
	Add []float64 `json:"addMs"`
	Del []float64 `json:"delMs"`
}

// kinds are the requests that are measured.
var kinds = []request{{}, {atOnce: true}, {chained: true}, {chained: true, atOnce: true}}

// TestCNI measures how long it takes to attach and detach Pods through the real
// agent on a node of the lab, beside the plugins bridge and host-local there.
func TestCNI(t *testing.T) {
	r := begin(t, "cni")
	lab := productLab(t, "cni")
	node := lab.Topology.WithRole(topology.RoleNode)[0].Name
	h, err := lab.Host(node)
	if err != nil {
		t.Fatal(err)
	}
	installLoad(t, lab, h)
	bindPods(t, lab, h)
	load(t, h, "--config="+configOf("waymark", true), "--plugins="+pluginsDir, "--count="+strconv.Itoa(full), "--parallel=8") // all are known then

	got := samples[request]{}
	for round := range *rounds {
		for _, kind := range kinds {
			count, parallel := oneByOne, 1
			if kind.atOnce {
				count, parallel = together, together
			}
			names := []string{"waymark", "bridge"}
			if round%2 == 1 {
				slices.Reverse(names)
			}
			for _, name := range names {
				result := load(t, h, "--config="+configOf(name, kind.chained), "--plugins="+pluginsDir,
					"--count="+strconv.Itoa(count), "--parallel="+strconv.Itoa(parallel))
				kind.plugin = name
				for command, times := range map[string][]float64{"ADD": result.Add, "DEL": result.Del} {
					kind.command = command
					got.add(kind, times...)
				}
			}
		}
		t.Logf("round %d of %d is done", round+1, *rounds)
	}
	for _, kind := range kinds {
		for _, command := range []string{"ADD", "DEL"} {
			for _, q := range []float64{0.5, 0.99} {
				own, other := kind, kind
				own.plugin, own.command, other.plugin, other.command = "waymark", command, "bridge", command
				r.Add(report.Measure(fmt.Sprintf("%s p%.0f%s", command, q*100, kind.suffix()), got.quantile(own, q), "ms").
					Beside(got.quantile(other, q)))
			}
		}
	}
	resident := residentWith(t, h, "--config="+configOf("waymark", true), "--plugins="+pluginsDir)
	row := report.Measure("agent RSS", resident, "MB")
	row.Note = fmt.Sprintf("with %d Pods on the node", full)
	r.Add(row)
	write(t, r)
}

// installLoad puts cniload and the plugins to compare with onto a node.
func installLoad(t *testing.T, lab *cluster.Lab, h *host.Host) {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", dir+"/", "./test/bench/cniload",
		"github.com/containernetworking/plugins/plugins/main/bridge",
		"github.com/containernetworking/plugins/plugins/ipam/host-local")
	build.Dir, build.Env = lab.Source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the plugins: %v\n%s", err, out)
	}
	for name, path := range map[string]string{
		"cniload": cniLoad, "bridge": filepath.Join(pluginsDir, "bridge"), "host-local": filepath.Join(pluginsDir, "host-local"),
	} {
		if err := workload.InstallProgram(t.Context(), h, filepath.Join(dir, name), path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Output(t.Context(), nil, "sh", "-c", "cp "+installedDir+"/* "+pluginsDir); err != nil {
		t.Fatal(err)
	}
	out, err := h.Output(t.Context(), nil, "cat", installedConf)
	if err != nil {
		t.Fatal(err)
	}
	var installed struct {
		CNIVersion string            `json:"cniVersion"`
		Name       string            `json:"name"`
		Plugins    []json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal([]byte(out), &installed); err != nil || len(installed.Plugins) == 0 {
		t.Fatalf("%s: %v\n%s", installedConf, err, out)
	}
	for name, plugin := range map[string]json.RawMessage{"waymark": installed.Plugins[0], "bridge": json.RawMessage(bridgePlugin)} {
		for chained, plugins := range map[bool][]json.RawMessage{
			false: {plugin}, true: append([]json.RawMessage{plugin}, installed.Plugins[1:]...),
		} {
			list := installed
			list.Name, list.Plugins = name, plugins
			content, err := json.Marshal(list)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.Output(t.Context(), bytes.NewReader(content), "install", "-D", "-m", "644", "/dev/stdin", configOf(name, chained)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// bindPods has the cluster know the Pods that cniload attaches: the agent waits
// for the policies of each. The kubelet, which would run them, is stopped.
func bindPods(t *testing.T, lab *cluster.Lab, h *host.Host) {
	t.Helper()
	if err := h.StopProcess(t.Context(), "kubelet", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var objects strings.Builder
	for i := range full {
		fmt.Fprintf(&objects, `---
apiVersion: v1
kind: Pod
metadata: {name: cniload-%d, namespace: default, labels: {app: cniload}}
spec:
  nodeName: %s
  automountServiceAccountToken: false
  tolerations: [{operator: Exists}]
  containers: [{name: none, image: none}]
`, i, h.Name())
	}
	if err := lab.ApplyObjects(t.Context(), objects.String()); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, h *host.Host, args ...string) cniTimes {
	t.Helper()
	out, err := h.Output(t.Context(), nil, append([]string{cniLoad}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var result cniTimes
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return result
}

// residentWith fills the node up to the usual number of Pods and returns the
// agent's resident memory in MB then.
func residentWith(t *testing.T, h *host.Host, plugin ...string) float64 {
	t.Helper()
	out, err := h.Output(t.Context(), nil, "sh", "-c", "ip -o link | grep -c ' wm[0-9a-f]\\{12\\}' || true")
	if err != nil {
		t.Fatal(err)
	}
	there, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		t.Fatal(err)
	}
	argv := append([]string{cniLoad}, plugin...)
	argv = append(argv, "--hold", "--parallel=8", "--count="+strconv.Itoa(full-there))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stdin, end := io.Pipe()
	stdout, said := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := h.Run(ctx, host.Cmd{Argv: argv, Stdin: stdin, Stdout: said, Stderr: os.Stderr})
		ended <- errors.Join(err, said.Close())
	}()
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "attached" {
		t.Fatalf("attaching %d Pods: %q: %v", full-there, lines.Text(), <-ended)
	}
	status, err := h.Output(ctx, nil, "sh", "-euc", `cat "/proc/$(pgrep -o -x waymark-agent)/status"`)
	if err != nil {
		t.Fatal(err)
	}
	if err := end.Close(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // the times
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(status) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kib); n == 1 {
			return kib * 1024 / 1e6
		}
	}
	t.Fatalf("no resident memory in\n%s", status)
	return 0
}
