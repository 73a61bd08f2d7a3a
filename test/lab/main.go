// SPDX-License-Identifier: Apache-2.0

// Command lab runs real Kubernetes clusters with racks and routers on this one
// machine. See the package cli for what it understands.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/waymark-net/waymark/test/lab/cli"
	"github.com/waymark-net/waymark/test/lab/host"
)

func main() {
	host.Main() // does not return when this process is a host of a lab
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := cli.New().ExecuteContext(ctx); err != nil {
		if code, ok := cli.ExitCode(err); ok {
			os.Exit(code)
		}
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}
