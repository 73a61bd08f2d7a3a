// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	var p params
	flag.StringVar(&p.config, "config", "", "path of the network configuration list")
	plugins := flag.String("plugins", "/opt/cni/bin", "folders of the plugins, separated by colons")
	flag.StringVar(&p.cache, "cache", "/run/cniload", "folder where libcni keeps results")
	flag.StringVar(&p.prefix, "prefix", "cniload", "what names of namespaces and containers begin with")
	flag.IntVar(&p.count, "count", 1, "namespaces to attach")
	flag.IntVar(&p.parallel, "parallel", 1, "how many at once")
	hold := flag.Bool("hold", false, `say "attached" and keep them until standard input ends`)
	flag.Parse()
	p.plugins = strings.Split(*plugins, ":")

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	between := func() error { return nil }
	if *hold {
		between = func() error {
			fmt.Println("attached")
			_, err := io.Copy(io.Discard, os.Stdin)
			return err
		}
	}
	times, err := run(ctx, p, between)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(times)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cniload:", err)
		os.Exit(1)
	}
}
