// SPDX-License-Identifier: Apache-2.0

// Command demo starts a real cluster on this machine and shows that it works:
// nodes, Pods, what the routers know, who reaches whom, names and a Service. It
// writes what it found to out/demo/report.json.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/waymark-net/waymark/test/lab/host"
)

func main() {
	host.Main() // does not return when this process is a host of a lab
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	o := options{out: os.Stdout}
	command := &cobra.Command{
		Use:           "demo",
		Short:         "Start a real cluster on this machine and show that it works",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(command *cobra.Command, _ []string) error { return run(command.Context(), o) },
	}
	f := command.Flags()
	f.StringVar(&o.name, "name", "demo", "name of the lab")
	f.StringVar(&o.mode, "mode", "noEncap", "traffic mode: noEncap, encap, hybrid or auto")
	f.StringVar(&o.families, "families", "dual", "IP families: dual, ipv4 or ipv6")
	f.IntVar(&o.nodes, "nodes", 3, "number of nodes, in two racks")
	f.StringVar(&o.report, "report", "out/demo/report.json", "file for the report")
	return command
}
