// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/report"
)

// labPrefix begins the names of this run's labs: what an earlier run with the
// same prefix left is removed. WAYMARK_E2E_PREFIX replaces it, for several runs
// side by side.
var labPrefix = cmp.Or(os.Getenv("WAYMARK_E2E_PREFIX"), "e2e-")

// suite is the report of the run.
var suite reported

type reported struct {
	sync.Mutex
	*report.Report
}

// add adds a row, and fails the test if it does not hold.
func (s *reported) add(t *testing.T, r report.Row) {
	t.Helper()
	s.Lock()
	defer s.Unlock()
	s.Add(r)
	if r.OK != nil && !*r.OK {
		t.Errorf("%s: %s", r.Case, r.Note)
	}
}

func TestMain(m *testing.M) {
	host.Main() // does not return when this process is a host of a lab
	os.Exit(run(m))
}

func run(m *testing.M) int {
	flag.Parse()
	ctx := context.Background()
	source, err := cluster.Source()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := downAll(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	params, path := reportOf()
	params.Source = source
	suite.Report = report.Begin(ctx, params)
	code := m.Run()
	failures.print(os.Stderr)
	if err := suite.Write(filepath.Join(source, path)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// downAll removes what an earlier run that was killed left.
func downAll(ctx context.Context) error {
	names, err := cluster.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, labPrefix) {
			if err := cluster.Down(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// record adds rows to the report and fails the test for those that do not hold.
func record(t *testing.T, rows ...report.Row) {
	t.Helper()
	for _, r := range rows {
		r.Case = t.Name() + ": " + r.Case
		suite.add(t, r)
	}
}

// check runs a case as a subtest with a row of its own in the report.
func check(t *testing.T, name string, run func(t *testing.T)) bool {
	t.Helper()
	return t.Run(name, func(t *testing.T) {
		started := time.Now()
		defer func() {
			if t.Failed() {
				failures.collect(context.WithoutCancel(t.Context()), t)
			}
			if *resilience {
				return // its rows are of disturbances
			}
			suite.Lock()
			defer suite.Unlock()
			row := report.Check(t.Name(), !t.Failed(), fmt.Sprintf("%.1f s", time.Since(started).Seconds()))
			suite.Add(row)
		}()
		run(t)
	})
}

// newLab starts a lab that lives as long as the test. When a check fails, what the
// lab is like is collected.
func newLab(t *testing.T, name string, change func(*cluster.Description)) *cluster.Lab {
	t.Helper()
	d := cluster.Default(labPrefix + name)
	d.Progress = os.Stderr
	d.Mode = "noEncap"
	if change != nil {
		change(&d)
	}
	ctx := t.Context()
	lab, err := cluster.Up(ctx, d)
	failures.watch(t, d.Name)
	t.Cleanup(func() {
		ctx := context.Background()
		if t.Failed() {
			failures.collect(ctx, t)
		}
		if os.Getenv("WAYMARK_E2E_KEEP") != "" {
			t.Logf("lab %s is kept", d.Name)
			return
		}
		if err := cluster.Down(ctx, d.Name); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return lab
}

// eventually asks until there is no complaint, or fails with the last one.
func eventually(t *testing.T, limit time.Duration, ask func(ctx context.Context) error) {
	t.Helper()
	if err := cluster.Until(t.Context(), limit, ask); err != nil {
		failures.waited(t, err)
		t.Fatal(err)
	}
}
