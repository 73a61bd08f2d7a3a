// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/waymark-net/waymark/test/lab/probe/pause"
)

// commands by name. Each reads its own flags.
var commands = map[string]func(ctx context.Context, args []string) error{
	"pause":       func(ctx context.Context, _ []string) error { return pause.Run(ctx) },
	"serve":       runServe,
	"check":       runCheck,
	"ping":        runPing,
	"stream":      runStream,
	"connect":     runConnect,
	"datagram":    runDatagram,
	"rr":          runRoundTrips,
	"throughput":  runThroughput,
	"connections": runConnections,
	"follow":      runFollow,
	"sweep":       runSweep,
	"sockets":     runSockets,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: probe pause|serve|check|ping|stream|connect|datagram|rr|throughput|connections|follow|sweep|sockets [flags] [arguments]")
		os.Exit(2)
	}
	err := commands[os.Args[1]](ctx, os.Args[2:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "probe %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

// newFlags makes the flags of a command.
func newFlags(name, arguments string) *flag.FlagSet {
	flags := flag.NewFlagSet("probe "+name, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: probe %s [flags] %s\n", name, arguments)
		flags.PrintDefaults()
	}
	return flags
}

// span are the flags that say when a command ends.
type span struct {
	duration time.Duration
	stdin    bool
}

func (s *span) add(flags *flag.FlagSet) {
	flags.DurationVar(&s.duration, "duration", 0, "end after this time (0: at a signal)")
	flags.BoolVar(&s.stdin, "stdin", false, "end at the end of standard input")
}

// context returns one that ends when the command shall.
func (s *span) context(ctx context.Context) (context.Context, context.CancelFunc) {
	var cancel context.CancelFunc
	if s.duration > 0 {
		ctx, cancel = context.WithTimeout(ctx, s.duration)
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	if s.stdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	return ctx, cancel
}

// began says on standard error that the first packets have come back, so that
// whoever wants to disturb them need not guess when.
func began(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// report prints a result.
func report(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}
