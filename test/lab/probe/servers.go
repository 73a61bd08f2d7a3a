// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/waymark-net/waymark/test/lab/probe/bench"
	"github.com/waymark-net/waymark/test/lab/probe/serve"
	"github.com/waymark-net/waymark/test/lab/probe/stream"
)

// ports is a flag: port numbers, or ranges such as 7000-7009, separated by
// commas.
type ports []uint16

func (p *ports) String() string {
	var out []string
	for _, port := range *p {
		out = append(out, strconv.Itoa(int(port)))
	}
	return strings.Join(out, ",")
}

func (p *ports) Set(text string) error {
	*p = nil
	if text == "" {
		return nil
	}
	for _, part := range strings.Split(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 16)
		last, lastErr := strconv.ParseUint(to, 10, 16)
		if err != nil || lastErr != nil || first == 0 || last < first {
			return fmt.Errorf("%q is no port and no range of ports", part)
		}
		for port := first; port <= last; port++ {
			*p = append(*p, uint16(port))
		}
	}
	return nil
}

// runServe runs every server until a signal, or until one of them fails.
func runServe(ctx context.Context, args []string) error {
	echo, http, streams, benches, greet := ports{7000}, ports{8080}, ports{7100}, ports{7200}, ports{7300}
	var answers ports
	flags := newFlags("serve", "")
	flags.Var(&echo, "echo", "TCP and UDP ports that greet and echo")
	flags.Var(&http, "http", "TCP ports with HTTP pages: / /healthz /hostname /clientip")
	flags.Var(&streams, "stream", "TCP ports that answer probe stream")
	flags.Var(&benches, "bench", "TCP and UDP ports that answer probe rr and throughput")
	flags.Var(&greet, "greet", "TCP ports that greet and close, for probe connect")
	flags.Var(&answers, "answer", "TCP ports that answer probe connections and follow")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var servers []func(context.Context) error
	add := func(run func(context.Context) error) { servers = append(servers, run) }
	for _, port := range echo {
		add(func(ctx context.Context) error { return serve.TCP(ctx, port, serve.Echo) })
		add(func(ctx context.Context) error { return serve.UDPEcho(ctx, port) })
	}
	for _, port := range http {
		add(func(ctx context.Context) error { return serve.HTTP(ctx, port) })
	}
	for _, port := range streams {
		add(func(ctx context.Context) error { return serve.TCP(ctx, port, stream.Serve) })
	}
	for _, port := range greet {
		add(func(ctx context.Context) error { return serve.TCP(ctx, port, serve.Greet) })
	}
	for _, port := range benches {
		server := &bench.Server{}
		add(func(ctx context.Context) error { return serve.TCP(ctx, port, server.ServeTCP) })
		add(func(ctx context.Context) error { return server.ServeUDP(ctx, port) })
	}
	for _, port := range answers {
		add(func(ctx context.Context) error { return serve.TCP(ctx, port, bench.AnswerPort) })
	}
	return runAll(ctx, servers)
}

// runAll runs servers until ctx ends or one fails, and returns that failure.
func runAll(ctx context.Context, servers []func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var group sync.WaitGroup
	var once sync.Once
	var first error
	for _, run := range servers {
		group.Go(func() {
			if err := run(ctx); err != nil {
				once.Do(func() { first = err })
				cancel(err)
			}
		})
	}
	group.Wait()
	return first
}
