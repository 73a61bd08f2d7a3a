// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(100-i))
	}
	for _, test := range []struct {
		samples []float64
		q, want float64
	}{
		{nil, 0.5, 0}, {[]float64{3}, 0.5, 3}, {[]float64{3}, 0.99, 3},
		{hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1},
		{[]float64{3, 1, 2}, 0.5, 2},
	} {
		if got := Quantile(test.samples, test.q); got != test.want {
			t.Errorf("Quantile(%v, %v) = %v, want %v", test.samples, test.q, got, test.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		samples []float64
		want    float64
	}{{nil, 0}, {[]float64{4}, 4}, {[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := Median(test.samples); got != test.want {
			t.Errorf("Median(%v) = %v, want %v", test.samples, got, test.want)
		}
	}
}

func TestQuartiles(t *testing.T) {
	for _, test := range []struct {
		samples   []float64
		low, high float64
	}{{nil, 0, 0}, {[]float64{4}, 4, 4}, {[]float64{8, 1, 2, 3, 7, 6, 5, 4}, 2, 6}} {
		if low, high := Quartiles(test.samples); low != test.low || high != test.high {
			t.Errorf("Quartiles(%v) = %v, %v, want %v, %v", test.samples, low, high, test.low, test.high)
		}
	}
}

// procfs writes files as the kernel shows them.
func procfs(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func statOf(name string, parent, user, system, childUser, childSystem int) string {
	return fmt.Sprintf("1 (%s) S %d 1 1 0 -1 0 1 2 3 4 %d %d %d %d 20 0 1 0 900\n", name, parent, user, system, childUser, childSystem)
}

func TestCPU(t *testing.T) {
	dir := t.TempDir()
	procfs(t, dir, map[string]string{
		"stat":        "cpu  1000 10 500 9999 99 5 20 0 0 0\ncpu0 1 2 3\n",
		"self/stat":   "not a process",
		"2/stat":      statOf("kthreadd", 0, 0, 7, 0, 0),
		"13/stat":     statOf("ksoftirqd/0", 2, 0, 50, 0, 0),
		"20/stat":     statOf("ovs-vswitchd", 1, 300, 100, 0, 0),
		"20/cmdline":  "ovs-vswitchd\x00unix:db.sock\x00",
		"30/stat":     statOf("a (b) c", 1, 100, 50, 30, 20),
		"30/cmdline":  "other\x00",
		"40/nostatus": "",
	})
	cpu := CPU{Proc: dir, Counts: func(p Process) bool {
		if p.Name == "ovs-vswitchd" && (p.PID != 20 || len(p.Args) != 2 || p.Args[1] != "unix:db.sock") {
			t.Errorf("process %+v", p)
		}
		return p.Name == "ovs-vswitchd"
	}}
	stop, err := cpu.Start()
	if err != nil {
		t.Fatal(err)
	}
	procfs(t, dir, map[string]string{
		"stat":    "cpu  1400 10 600 19999 99 5 70 0 0 0\n",  // 550 more
		"30/stat": statOf("a (b) c", 1, 250, 50, 130, 20),    // 250 more
		"13/stat": statOf("ksoftirqd/0", 2, 0, 90, 0, 0),     // of the kernel
		"20/stat": statOf("ovs-vswitchd", 1, 500, 150, 0, 0), // counted
	})
	got, err := stop()
	if err != nil {
		t.Fatal(err)
	}
	if want := 3 * time.Second; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestCPUWrong(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no stat":      {},
		"strange stat": {"stat": "intr 1 2 3"},
		"short stat":   {"stat": "cpu 1 2 3"},
		"no numbers":   {"stat": "cpu a b c d e f g"},
		"no name":      {"stat": "cpu 1 2 3 4 5 6 7", "9/stat": "9 x"},
		"few fields":   {"stat": "cpu 1 2 3 4 5 6 7", "9/stat": "9 (x) S 1 2 3"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			procfs(t, dir, files)
			if _, err := (CPU{Proc: dir, Counts: func(Process) bool { return true }}).Start(); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestProcessStat(t *testing.T) {
	cpu, started, err := ProcessStat(statOf("x", 1, 200, 30, 4, 1))
	if cpu != 2350*time.Millisecond || started != 9*time.Second || err != nil {
		t.Errorf("CPU %s, started %s, error %v", cpu, started, err)
	}
	if _, _, err := ProcessStat("1 (x) S 1"); err == nil {
		t.Error("few fields: no error")
	}
}

func FuzzStat(f *testing.F) {
	f.Add(statOf("x", 1, 2, 3, 4, 5))
	f.Add("cpu 1 2 3 4 5 6 7")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseStat(text)
		if err == nil && !strings.Contains(text, "("+s.name+")") {
			t.Errorf("name %q of %q", s.name, text)
		}
		if _, err := parseBusy(text); err == nil && !strings.HasPrefix(strings.TrimSpace(text), "cpu") {
			t.Errorf("read a time from %q", text)
		}
	})
}
