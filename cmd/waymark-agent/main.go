// SPDX-License-Identifier: Apache-2.0

// Command waymark-agent makes a node part of the network: it connects the
// node's Pods, tells the routers where they are, and programs the switch.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/agent"
	"github.com/waymark-net/waymark/internal/cniinstall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	command := newCommand()
	if err := command.ExecuteContext(klog.NewContext(ctx, klog.Background())); err != nil {
		fmt.Fprintln(os.Stderr, "waymark-agent:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var p agent.Params
	var kubeconfig string
	command := &cobra.Command{
		Use:           "waymark-agent",
		Short:         "Connect the Pods of a node",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			if p.NodeName == "" {
				return fmt.Errorf("--node-name or the environment variable NODE_NAME must name the node")
			}
			var err error
			// In a Pod, without a file, this is the Pod's service account.
			if p.Kubernetes, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
				return fmt.Errorf("configuring the way to the API server: %w", err)
			}
			a, err := agent.New(p)
			if err != nil {
				return err
			}
			klog.FromContext(command.Context()).Info("Starting", "node", p.NodeName)
			return a.Run(command.Context())
		},
	}
	f := command.Flags()
	f.StringVar(&p.NodeName, "node-name", os.Getenv("NODE_NAME"), "name of this node's Node object")
	f.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig file; the Pod's service account if empty")
	f.StringVar(&p.StateDir, "state-dir", "/var/lib/waymark", "directory for what outlives a reboot")
	f.StringVar(&p.RunDir, "run-dir", "/var/run/waymark", "directory for the CNI socket and what ends with the machine")
	f.StringVar(&p.OVSDir, "ovs-dir", "/var/run/openvswitch", "directory of Open vSwitch's sockets")
	f.StringVar(&p.TokenFile, "controller-token", "/var/run/secrets/waymark/token", "file with the token to show to controllers")
	f.StringVar(&p.CNIConfig, "cni-config", cniinstall.DefaultConfigPath, "CNI configuration file to write once the node is ready")
	f.StringVar(&p.Listen, "listen", "127.0.0.1:10461", "address of health and metrics")
	command.AddCommand(newInstallCommand())
	return command
}

func newInstallCommand() *cobra.Command {
	var source, target string
	command := &cobra.Command{
		Use:   "install-cni",
		Short: "Install the CNI plugins on the host",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			changed, err := cniinstall.InstallBinaries(source, target)
			klog.FromContext(command.Context()).Info("CNI plugins installed", "changed", changed)
			return err
		},
	}
	command.Flags().StringVar(&source, "source", cniinstall.DefaultSource, "directory with the plugins")
	command.Flags().StringVar(&target, "target", cniinstall.DefaultBinDir, "the runtime's plugin directory")
	return command
}
