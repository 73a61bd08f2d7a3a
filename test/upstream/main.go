// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/upstream/suite"
)

func main() {
	host.Main() // does not return when this process is a host of a lab
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	o := options{out: os.Stdout}
	command := &cobra.Command{
		Use:           "upstream SUITE",
		Short:         "Run an upstream suite on a lab: " + strings.Join(suite.Names(), " or "),
		Args:          cobra.ExactArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, args []string) error {
			o.suite = args[0]
			return run(command.Context(), o)
		},
	}
	f := command.Flags()
	f.StringVar(&o.lab, "name", "upstream", "name of the lab")
	f.StringVar(&o.mode, "mode", "noEncap", "traffic mode: noEncap, encap, hybrid or auto")
	f.StringVar(&o.families, "families", "dual", "IP families: dual, ipv4 or ipv6")
	f.StringVar(&o.focus, "focus", "", "regular expression: only specs with such names")
	f.StringVar(&o.skip, "skip", "", "regular expression: no specs with such names")
	f.IntVar(&o.procs, "procs", 0, "specs to run at once, where a suite can (0: its own choice)")
	f.BoolVar(&o.kubeProxy, "kube-proxy", false, "run kube-proxy on the nodes")
	f.BoolVar(&o.keep, "keep", false, "keep the lab; one that is there already is used as it is")
	f.StringVar(&o.dir, "out", "out/conformance", "folder for the results")
	return command
}
