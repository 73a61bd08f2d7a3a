// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/report"
	"github.com/waymark-net/waymark/test/upstream/specs"
	"github.com/waymark-net/waymark/test/upstream/suite"
)

type options struct {
	suite, lab, mode, families, focus, skip, dir string

	procs     int
	kubeProxy bool
	keep      bool
	out       io.Writer
}

// collectLimit bounds looking at a lab after a failure.
const collectLimit = 3 * time.Minute

func run(ctx context.Context, o options) (err error) {
	source, err := cluster.Source()
	if err != nil {
		return err
	}
	upstream, err := suite.Prepare(ctx, o.suite, source, func(step string) { fmt.Fprintln(o.out, step) })
	if err != nil {
		return err
	}
	rep := report.Begin(ctx, report.Params{Name: o.title(upstream), Command: o.command(), Source: source})
	lab, err := o.start(ctx, upstream)
	if !o.keep {
		defer func() { err = errors.Join(err, cluster.Down(context.WithoutCancel(ctx), o.lab)) }()
	}
	if err != nil {
		return err
	}
	dir := filepath.Join(o.dir, o.id())
	found, err := upstream.Run(ctx, lab, suite.Run{Focus: o.focus, Skip: o.skip, Procs: o.procs, Dir: dir, Progress: o.out})
	if err != nil {
		return err
	}
	if err := specs.Write(dir, found); err != nil {
		return err
	}
	rep.Add(specs.Summary(found)...)
	if err := rep.Write(dir + ".json"); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "\n%s\nThe result of every spec is in %s.\n", rep.Markdown(), filepath.Join(dir, "specs.json"))
	if failed := rep.Failed(); len(failed) > 0 {
		return errors.Join(fmt.Errorf("%d specs failed; their logs are in %s", len(failed), filepath.Join(dir, "failures")), collect(ctx, lab, dir))
	}
	return nil
}

// collect gathers what the lab is like after a failure.
func collect(ctx context.Context, lab *cluster.Lab, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, collectLimit)
	defer cancel()
	return lab.Collect(ctx, filepath.Join(dir, "lab"))
}

// start starts the lab, or takes the one that was kept.
func (o options) start(ctx context.Context, upstream *suite.Suite) (*cluster.Lab, error) {
	if o.keep {
		if lab, err := cluster.Open(o.lab, o.out); err == nil {
			return lab, nil
		}
	}
	d := cluster.Default(o.lab)
	d.Mode = o.mode
	d.Network.Families = topology.Families(o.families)
	d.KubeProxy = o.kubeProxy
	upstream.DescribeWhole(&d)
	d.Progress = o.out
	return cluster.Up(ctx, d)
}

// id names the results of a run: what was run, and on what. Those of a part of
// a suite do not replace those of the whole, which documents have.
func (o options) id() string {
	id := strings.ToLower(o.suite + "-" + o.mode + "-" + o.families)
	if o.kubeProxy {
		id += "-kube-proxy"
	}
	if o.focus != "" || o.skip != "" {
		id += "-part"
	}
	return id
}

func (o options) title(upstream *suite.Suite) string {
	title := fmt.Sprintf("%s, %s, %s", upstream.Title, o.mode, o.families)
	if o.kubeProxy {
		title += ", with kube-proxy"
	}
	if len(upstream.Changed) > 0 {
		title += " (" + strings.Join(upstream.Changed, "; ") + ")"
	}
	return title
}

// command is the command as a person would type it.
func (o options) command() string {
	command := fmt.Sprintf("make e2e-upstream SUITE=%s MODE=%s FAMILIES=%s", o.suite, o.mode, o.families)
	for _, more := range []struct{ name, value string }{
		{"FOCUS", o.focus}, {"SKIP", o.skip}, {"PROCS", map[bool]string{true: strconv.Itoa(o.procs)}[o.procs > 0]}, {"KUBE_PROXY", map[bool]string{true: "1"}[o.kubeProxy]},
	} {
		if more.value != "" {
			command += fmt.Sprintf(" %s='%s'", more.name, strings.ReplaceAll(more.value, "'", `'\''`))
		}
	}
	return command
}
