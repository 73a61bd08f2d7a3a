// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// defaultName is the lab that commands mean when none is named.
const defaultName = "lab"

// New returns the command line.
func New() *cobra.Command {
	var name string
	root := &cobra.Command{
		Use:           "lab",
		Short:         "Run real Kubernetes clusters with racks and routers on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&name, "name", envOr("WAYMARK_LAB", defaultName), "name of the lab (environment WAYMARK_LAB)")
	open := func() (*cluster.Lab, error) { return cluster.Open(name, os.Stdout) }
	root.AddCommand(
		newUp(&name), newDown(&name), newStatus(open), newKubectl(open), newExec(open), newVtysh(open),
		newCapture(open), newFail(open), newNode(open), newApply(open), newCollect(open),
	)
	return root
}

func envOr(key, fallback string) string {
	if value := os.Getenv(key); value != "" {
		return value
	}
	return fallback
}

// ExitCode is the exit status of a command that was run in a host and failed,
// which then has said why itself.
func ExitCode(err error) (int, bool) {
	var exit *host.ExitError
	if !errors.As(err, &exit) || exit.Output != "" {
		return 0, false
	}
	if exit.Signal != 0 {
		return 128 + int(exit.Signal), true
	}
	return exit.Code, true
}

type opener func() (*cluster.Lab, error)

func newDown(name *string) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove a lab, in whatever state it is",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove all labs of this machine")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		names := []string{*name}
		if all {
			var err error
			if names, err = cluster.Names(); err != nil {
				return err
			}
		}
		var errs []error
		for _, n := range names {
			errs = append(errs, cluster.Down(cmd.Context(), n))
		}
		return errors.Join(errs...)
	}
	return cmd
}

func newStatus(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what of a lab runs",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := open()
			if err != nil {
				names, namesErr := cluster.Names()
				if namesErr == nil && len(names) > 0 {
					return fmt.Errorf("%w; on this machine there are: %s", err, strings.Join(names, ", "))
				}
				return err
			}
			return l.Status(cmd.Context(), cmd.OutOrStdout())
		},
	}
}

// passThrough marks a command whose arguments after its own belong to another
// program, flags included.
func passThrough(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().SetInterspersed(false)
	return cmd
}

// run runs a command in a host on our own terminal.
func run(cmd *cobra.Command, h *host.Host, command host.Cmd) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Signals = signals
	// Not the command line's context: an interrupt is for the command to handle.
	return h.Run(context.WithoutCancel(cmd.Context()), command)
}

func newKubectl(open opener) *cobra.Command {
	return passThrough(&cobra.Command{
		Use:   "kubectl ARGS...",
		Short: "Run kubectl as administrator",
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			h, err := l.Host(topology.ControlPlane)
			if err != nil {
				return err
			}
			return run(cmd, h, l.KubectlCmd(args...))
		},
	})
}

func newExec(open opener) *cobra.Command {
	return passThrough(&cobra.Command{
		Use:   "exec HOST COMMAND...",
		Short: "Run a command in a node, router or other host",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			h, err := l.Host(args[0])
			if err != nil {
				return err
			}
			return run(cmd, h, host.Cmd{Argv: args[1:]})
		},
	})
}

func newVtysh(open opener) *cobra.Command {
	return passThrough(&cobra.Command{
		Use:   "vtysh ROUTER [COMMAND...]",
		Short: "Run commands in a router's shell, or the shell itself",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			h, err := l.Host(args[0])
			if err != nil {
				return err
			}
			argv := []string{"vtysh"}
			for _, c := range args[1:] {
				argv = append(argv, "-c", c)
			}
			return run(cmd, h, host.Cmd{Argv: argv})
		},
	})
}

func newCapture(open opener) *cobra.Command {
	return passThrough(&cobra.Command{
		Use:   "capture LINK [TCPDUMP ARGS...]",
		Short: "Show the packets on a link (such as n1-rackA or torA-spine) or a HOST:INTERFACE",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			h, command, err := l.CaptureCmd(args[0], args[1:]...)
			if err != nil {
				return err
			}
			return run(cmd, h, command)
		},
	})
}

func newFail(open opener) *cobra.Command {
	var kinds strings.Builder
	kinds.WriteString("Break something in a lab, or repair it:\n\n")
	for _, f := range cluster.Failures() {
		fmt.Fprintf(&kinds, "  %-36s %s\n", f.Kind+" "+f.Args, f.Help)
	}
	return &cobra.Command{
		Use:   "fail KIND ARGS...",
		Short: "Break something in a lab, or repair it",
		Long:  kinds.String(),
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			return l.Fail(cmd.Context(), args[0], args[1:]...)
		},
	}
}

func newNode(open opener) *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Let nodes join and leave"}
	var rack string
	add := &cobra.Command{
		Use:   "add NAME",
		Short: "Start a new node in a rack",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			return l.AddNode(cmd.Context(), args[0], rack)
		},
	}
	add.Flags().StringVar(&rack, "rack", "A", "letter of the rack")
	remove := &cobra.Command{
		Use:   "remove NAME",
		Short: "End a node and delete its object",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			return l.RemoveNode(cmd.Context(), args[0])
		},
	}
	cmd.AddCommand(add, remove)
	return cmd
}

func newApply(open opener) *cobra.Command {
	var settings map[string]string
	cmd := &cobra.Command{
		Use:   "apply MANIFEST",
		Short: "Apply a manifest of the product, with settings in its configuration",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			return l.Apply(cmd.Context(), args[0], merge(l.Description.Settings, settings))
		},
	}
	cmd.Flags().StringToStringVar(&settings, "set", nil, "field=value in the configuration document, besides those of the lab")
	return cmd
}

func newCollect(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "collect DIR",
		Short: "Gather routes, flows, BGP tables, logs and objects into a folder",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			return l.Collect(cmd.Context(), args[0])
		},
	}
}
