// SPDX-License-Identifier: Apache-2.0

// Command waymark-speaker has a node's sessions with routers. The agent tells it
// over a Unix socket what to announce and to whom; sessions stay when the agent
// ends. When the speaker ends the routers keep the node's routes for their restart
// time (graceful restart), and the agent goes on with BFD.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/httpserver"
	"github.com/waymark-net/waymark/internal/speakerapi"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/speaker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := newCommand().ExecuteContext(klog.NewContext(ctx, klog.Background())); err != nil {
		fmt.Fprintln(os.Stderr, "waymark-speaker:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var socket, listen string
	command := &cobra.Command{
		Use:           "waymark-speaker",
		Short:         "Have a node's sessions with routers",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			return run(command.Context(), socket, listen)
		},
	}
	f := command.Flags()
	f.StringVar(&socket, "socket", "/var/run/waymark/"+speakerapi.SocketName, "Unix socket for the agent")
	f.StringVar(&listen, "listen", "127.0.0.1:10464", "address of health and metrics")
	return command
}

func run(ctx context.Context, socket, listen string) error {
	server := speakerapi.NewServer(speakerapi.ServerParams{Socket: socket, Speaker: newSpeaker(filepath.Dir(socket))})
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "waymark_speaker_agents",
			Help: "Agents that are connected to the routing speaker now.",
		}, func() float64 { return float64(server.Agents()) }))
	klog.FromContext(ctx).Info("Starting", "socket", socket)
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(running) })
	group.Go(func() error {
		return httpserver.Serve(running, httpserver.Params{Address: listen, Ready: server.Ready, Gatherer: registry})
	})
	err := group.Wait()
	if ctx.Err() != nil {
		klog.FromContext(ctx).Info("Ended, the routers keep this node's routes for their restart time", "reason", err)
		return nil
	}
	return err
}

// newSpeaker makes speakers that share their BFD sessions with the agent.
func newSpeaker(dir string) func(func(routing.PathEvent), func([]routing.SessionStatus)) speakerapi.Speaker {
	return func(onRoutes func(routing.PathEvent), onSessions func([]routing.SessionStatus)) speakerapi.Speaker {
		return speaker.New(speaker.Params{OnRoutes: onRoutes, OnSessions: onSessions, Dir: dir})
	}
}
