// SPDX-License-Identifier: Apache-2.0

// Command waymark-controller does what is done once for the cluster: it judges
// the configuration and sums up what the nodes report.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/controller"
	"github.com/waymark-net/waymark/internal/kube"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := newCommand().ExecuteContext(klog.NewContext(ctx, klog.Background())); err != nil {
		fmt.Fprintln(os.Stderr, "waymark-controller:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var params controller.Params
	var kubeconfig string
	command := &cobra.Command{
		Use:           "waymark-controller",
		Short:         "Judge the configuration and sum up what the nodes report",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			// In a Pod, without a file, this is the Pod's service account.
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return fmt.Errorf("find the API server: %w", err)
			}
			// One replica writes for the whole cluster; the API server bounds it fairly.
			config.QPS, config.Burst = 50, 100
			if params.Clients, err = kube.NewClients(config); err != nil {
				return err
			}
			if params.Identity, err = identity(); err != nil {
				return err
			}
			c, err := controller.New(params)
			if err != nil {
				return err
			}
			return c.Run(command.Context())
		},
	}
	flags := command.Flags()
	flags.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig file; the Pod's service account if empty")
	flags.StringVar(&params.Listen, "listen", "127.0.0.1:10462", "address of health and metrics")
	flags.StringVar(&params.PolicyListen, "policy-listen", ":10463", "address of the policy stream for agents")
	logging := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(logging)
	flags.AddGoFlag(logging.Lookup("v"))
	return command
}

// identity tells this process from every other, also from the one before it on
// the same host.
func identity() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the host's name: %w", err)
	}
	return host + "_" + string(uuid.NewUUID()), nil
}
