// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/report"
)

// policyWorkloads are those of policyload, with what the best implementation
// that was published for each needs on one thread of a like machine.
var policyWorkloads = []struct {
	name               string
	seconds, megabytes float64
}{
	{"small namespaces", 3.3, 944},
	{"large namespaces", 1.04, 290},
	{"one namespace, all to all", 0.26, 88},
	{"a policy a Pod", 27.6, 139},
	{"cluster-scoped", 0.94, 262},
}

// churnSeconds is how long Pods come, change and go.
const churnSeconds = 30

// policyResult is what policyload prints.
type policyResult struct {
	Wall, CPU, Allocated, Allocations, Live float64
	Latencies                               []float64
}

// TestPolicy measures what it takes to compute policies, from the decoded
// objects of Kubernetes to what every node enforces, and how that grows.
func TestPolicy(t *testing.T) {
	r := begin(t, "policy")
	source, err := cluster.Source()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "policyload")
	if out, err := exec.Command("go", "build", "-C", source, "-o", program, "./test/bench/policyload").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := samples[string]{}
	for range *rounds {
		for _, w := range policyWorkloads {
			whole := policyLoad(t, program, "-workload", w.name)
			half := policyLoad(t, program, "-workload", w.name, "-size", "0.5")
			found.add(w.name+": wall", whole.Wall)
			found.add(w.name+": cpu", whole.CPU)
			found.add(w.name+": allocated", whole.Allocated)
			found.add(w.name+": live heap", whole.Live)
			found.add(w.name+": allocations", whole.Allocations)
			found.add(w.name+": half", half.CPU)
		}
	}
	for _, w := range policyWorkloads {
		measured := func(what, unit string) report.Row {
			return report.Measure(w.name+": "+what, found.median(w.name+": "+what), unit)
		}
		wall := measured("wall", "s").Beside(w.seconds)
		wall.Note = fmt.Sprintf("half of the objects take %.2f of the CPU time", found.median(w.name+": half")/found.median(w.name+": cpu"))
		allocated := measured("allocated", "MB").Beside(w.megabytes)
		allocated.Note = fmt.Sprintf("in %.2f million allocations", found.median(w.name+": allocations")/1e6)
		r.Add(wall, measured("cpu", "s"), allocated, measured("live heap", "MB"))
	}
	churn := samples[string]{}
	for _, seconds := range policyLoad(t, program, "-churn", fmt.Sprint(churnSeconds)).Latencies {
		churn.add("churn", seconds*1e3)
	}
	r.Add(report.Measure("churn: p50", churn.quantile("churn", 0.5), "ms"), report.Measure("churn: p99", churn.quantile("churn", 0.99), "ms"))
	write(t, r)
}

// policyLoad runs one workload in a process of its own, on one thread.
func policyLoad(t *testing.T, program string, args ...string) policyResult {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var result policyResult
	if err == nil {
		err = json.Unmarshal(out, &result)
	}
	if err != nil {
		t.Fatalf("policyload %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return result
}
