// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/matrix"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

type options struct {
	name, mode, families, report string
	nodes                        int
	out                          io.Writer
}

func run(ctx context.Context, o options) error {
	rep := report.Begin(ctx, report.Params{
		Name:    "demo",
		Command: fmt.Sprintf("make demo MODE=%s FAMILIES=%s NODES=%d", o.mode, o.families, o.nodes),
		Source:  ".",
	})
	d := cluster.Default(o.name)
	d.Mode = o.mode
	d.Network.Families = topology.Families(o.families)
	d.Network.Nodes = o.nodes
	d.Progress = o.out
	lab, err := cluster.Up(ctx, d)
	if err != nil {
		return err
	}
	if err := workload.Deploy(ctx, lab); err != nil {
		return fmt.Errorf("starting Pods: %w", err)
	}
	if err := workload.DeployWeb(ctx, lab); err != nil {
		return err
	}
	if err := show(ctx, o, lab); err != nil {
		return err
	}
	rows, err := routes(ctx, o, lab)
	if err != nil {
		return err
	}
	rep.Add(rows...)
	ends, err := workload.Endpoints(ctx, lab)
	if err != nil {
		return err
	}
	result := matrix.Run(ctx, matrix.Params{Endpoints: ends})
	rep.Add(result.Rows()...)
	fmt.Fprintf(o.out, "\nWho reaches whom, over TCP, UDP and ICMP\n\n%s\n", result.Grid())
	web, err := workload.CheckWeb(ctx, lab)
	if err != nil {
		return err
	}
	rep.Add(web...)
	fmt.Fprintln(o.out, "Names, and the Service web")
	fmt.Fprintln(o.out)
	for _, row := range web {
		fmt.Fprintf(o.out, "%s %s: %s\n", map[bool]string{true: "✓", false: "✗"}[*row.OK], row.Case, row.Note)
	}
	fmt.Fprintln(o.out)
	if err := rep.Write(o.report); err != nil {
		return err
	}
	fmt.Fprintf(o.out, goOn, o.report, o.name)
	if failed := rep.Failed(); len(failed) > 0 {
		for _, f := range result.Failures() {
			fmt.Fprintln(o.out, "failed:", f)
		}
		return fmt.Errorf("%d cases failed: %s", len(failed), strings.Join(failed, "; "))
	}
	return nil
}

const goOn = `The report is in %s. How to go on:

  export WAYMARK_LAB=%s
  go run ./test/lab kubectl get nodes,bgpsessions,pods -A
  go run ./test/lab exec n1 ip route
  go run ./test/lab exec n1 ovs-ofctl -O OpenFlow13 dump-flows br-int
  go run ./test/lab exec torA vtysh -c 'show bgp ipv6'
  go run ./test/lab capture torA-spine
  go run ./test/lab down
`

// show prints what a person wants to see first.
func show(ctx context.Context, o options, lab *cluster.Lab) error {
	for _, look := range [][]string{
		{"get", "nodes", "-o", "wide"},
		{"get", "pods", "-A", "-o", "wide"},
		{"get", "services", "-A", "-o", "wide"},
		{"get", "bgppeers,bgpsessions,nodepaths"},
	} {
		out, err := lab.Kubectl(ctx, look...)
		if err != nil {
			return err
		}
		fmt.Fprintf(o.out, "\n$ kubectl %s\n%s", strings.Join(look, " "), out)
	}
	for _, tor := range lab.Topology.WithRole(topology.RoleToR) {
		for _, family := range []string{"ipv4", "ipv6"} {
			command := "show bgp " + family
			out, err := lab.Vtysh(ctx, tor.Name, command)
			if err != nil {
				return err
			}
			fmt.Fprintf(o.out, "\n%s# %s\n%s", tor.Name, command, out)
		}
	}
	return nil
}

// routes checks that every router knows every node's Pod CIDRs where nodes
// route, and none where they do not.
func routes(ctx context.Context, o options, lab *cluster.Lab) ([]report.Row, error) {
	nodes, err := workload.PodCIDRs(ctx, lab)
	if err != nil {
		return nil, err
	}
	var rows []report.Row
	for _, router := range lab.Topology.WithRole(topology.RoleToR, topology.RoleSpine) {
		known, err := workload.KnownPrefixes(ctx, lab, router.Name)
		if err != nil {
			return nil, err
		}
		for _, n := range nodes {
			for _, cidr := range n.PodCIDRs {
				ok := known[cidr] == (o.mode != "encap")
				rows = append(rows, report.Row{
					Case: fmt.Sprintf("%s knows %s of %s", router.Name, cidr, n.Name), OK: &ok,
				})
			}
		}
	}
	return rows, nil
}
