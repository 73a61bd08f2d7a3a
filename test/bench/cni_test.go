// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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
	bridgeConf = "/etc/bench/10-bridge.conflist"
	// productConf is what the agent wrote.
	productConf = "/etc/cni/net.d/05-waymark.conflist"
)

// bridgeList is a usual configuration of the bridge plugin, in two families.
const bridgeList = `{
  "cniVersion": "1.0.0", "name": "bench",
  "plugins": [{
    "type": "bridge", "bridge": "bench0", "isGateway": true,
    "ipam": {
      "type": "host-local", "dataDir": "/run/bench-ipam",
      "ranges": [[{"subnet": "10.99.0.0/16"}], [{"subnet": "fd99::/64"}]],
      "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    }
  }]
}`

// request is one kind of CNI request in a plugin, alone or among many.
type request struct {
	plugin, command string
	atOnce          bool
}

// cniTimes is what cniload prints.
type cniTimes struct {
	Add []float64 `json:"addMs"`
	Del []float64 `json:"delMs"`
}

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

	plugins := map[string][]string{
		"waymark": {"--config=" + productConf, "--plugins=/opt/cni/bin"},
		"bridge":  {"--config=" + bridgeConf, "--plugins=" + pluginsDir},
	}
	got := samples[request]{}
	for round := range *rounds {
		for _, atOnce := range []bool{false, true} {
			count, parallel := oneByOne, 1
			if atOnce {
				count, parallel = together, together
			}
			names := []string{"waymark", "bridge"}
			if round%2 == 1 {
				names = []string{"bridge", "waymark"}
			}
			for _, name := range names {
				result := load(t, h, append(plugins[name], "--count="+strconv.Itoa(count), "--parallel="+strconv.Itoa(parallel))...)
				got.add(request{name, "ADD", atOnce}, result.Add...)
				got.add(request{name, "DEL", atOnce}, result.Del...)
			}
		}
		t.Logf("round %d of %d is done", round+1, *rounds)
	}
	for _, atOnce := range []bool{false, true} {
		suffix := ""
		if atOnce {
			suffix = fmt.Sprintf(" %d at once", together)
		}
		for _, command := range []string{"ADD", "DEL"} {
			for _, q := range []float64{0.5, 0.99} {
				own := got.quantile(request{"waymark", command, atOnce}, q)
				other := got.quantile(request{"bridge", command, atOnce}, q)
				r.Add(report.Measure(fmt.Sprintf("%s p%.0f%s", command, q*100, suffix), own, "ms").Beside(other))
			}
		}
	}
	resident := residentWith(t, h, plugins["waymark"])
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
	_, err := h.Output(t.Context(), strings.NewReader(bridgeList), "install", "-D", "-m", "644", "/dev/stdin", bridgeConf)
	if err != nil {
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
func residentWith(t *testing.T, h *host.Host, plugin []string) float64 {
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
