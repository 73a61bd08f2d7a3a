// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/bench/measure"
	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/report"
)

var (
	rounds   = flag.Int("rounds", 5, "measurements of everything that is measured")
	duration = flag.Duration("duration", 2*time.Second, "length of one measurement of the data path")
)

func TestMain(m *testing.M) {
	host.Main()       // does not return when this process is a host of a lab
	routeServerMain() // nor when it is a route server
	flag.Parse()
	os.Exit(m.Run())
}

// newLab starts a lab that lives as long as the test.
func newLab(t *testing.T, name string, change func(*cluster.Description)) *cluster.Lab {
	t.Helper()
	d := cluster.Default("bench-" + name)
	d.Progress = os.Stderr
	change(&d)
	lab, err := cluster.Up(t.Context(), d)
	t.Cleanup(func() {
		if os.Getenv("WAYMARK_BENCH_KEEP") != "" {
			t.Logf("lab %s is kept", d.Name)
			return
		}
		if err := cluster.Down(context.Background(), d.Name); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return lab
}

// productLab starts a lab with the product in noEncap.
func productLab(t *testing.T, name string) *cluster.Lab {
	t.Helper()
	return newLab(t, name, func(d *cluster.Description) { d.Mode = "noEncap" })
}

func begin(t *testing.T, name string) *report.Report {
	t.Helper()
	source, err := cluster.Source()
	if err != nil {
		t.Fatal(err)
	}
	return report.Begin(t.Context(), report.Params{Name: name, Command: "make bench-" + name, Source: source})
}

// write ends the report, and shows it.
func write(t *testing.T, r *report.Report) {
	t.Helper()
	source, err := cluster.Source()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(filepath.Join(source, "out", "bench", r.Name+".json")); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", r.Markdown())
}

// samples are measured values by what was measured.
type samples[K comparable] map[K][]float64

func (s samples[K]) add(key K, values ...float64) { s[key] = append(s[key], values...) }

func (s samples[K]) median(key K) float64 { return measure.Median(s[key]) }

func (s samples[K]) quantile(key K, q float64) float64 { return measure.Quantile(s[key], q) }
