// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/waymark-net/waymark/test/lab/probe/bench"
	"github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/probe/connect"
	"github.com/waymark-net/waymark/test/lab/probe/datagram"
	"github.com/waymark-net/waymark/test/lab/probe/ping"
	"github.com/waymark-net/waymark/test/lab/probe/sockets"
	"github.com/waymark-net/waymark/test/lab/probe/stream"
)

// runCheck reads a JSON list of targets from its argument or standard input.
func runCheck(ctx context.Context, args []string) error {
	flags := newFlags("check", "[TARGETS]")
	parallel := flags.Int("parallel", 32, "targets tried at once")
	if err := flags.Parse(args); err != nil {
		return err
	}
	text := []byte(flags.Arg(0))
	if flags.NArg() == 0 {
		var err error
		if text, err = io.ReadAll(os.Stdin); err != nil {
			return err
		}
	}
	var targets []check.Target
	if err := json.Unmarshal(text, &targets); err != nil {
		return fmt.Errorf("targets: %w", err)
	}
	return report(check.Run(ctx, targets, *parallel))
}

// runPing pings all addresses at once and prints a list of reports in their
// order.
func runPing(ctx context.Context, args []string) error {
	var params ping.Params
	var when span
	flags := newFlags("ping", "ADDRESS...")
	when.add(flags)
	flags.DurationVar(&params.Interval, "interval", time.Second, "between two requests, from 1ms")
	flags.IntVar(&params.Size, "size", 56, "bytes of payload")
	flags.IntVar(&params.Count, "count", 0, "requests to send (0: until the end)")
	flags.DurationVar(&params.Wait, "wait", 2*time.Second, "how long to wait for the last replies")
	flags.DurationVar(&params.Outages, "outages", 0, "list outages that are this long, with their times (0: none)")
	flags.BoolVar(&params.DontFragment, "df", false, "send whole or not at all")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 || params.Interval < time.Millisecond {
		return errors.New("want addresses, and an interval of 1ms at least")
	}
	ctx, cancel := when.context(ctx)
	defer cancel()
	reports := make([]ping.Report, flags.NArg())
	errs := make([]error, flags.NArg())
	var group sync.WaitGroup
	for i, text := range flags.Args() {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return err
		}
		own := params
		own.Address = address
		own.Answered = func() { began("ping %s is answered", address) }
		group.Go(func() { reports[i], errs[i] = ping.Run(ctx, own) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return report(reports)
}

func runStream(ctx context.Context, args []string) error {
	var params stream.Params
	var when span
	flags := newFlags("stream", "ADDR:PORT")
	when.add(flags)
	flags.DurationVar(&params.Interval, "interval", 5*time.Millisecond, "between two records of a side")
	flags.IntVar(&params.Size, "size", 1000, "bytes of a record")
	flags.DurationVar(&params.Stall, "stall", 200*time.Millisecond, "a pause without data this long is a stall")
	flags.DurationVar(&params.Silence, "silence", time.Minute, "a pause without data this long breaks the run")
	flags.DurationVar(&params.Connect, "connect", 10*time.Second, "how long to wait for the connection")
	address, err := parseTarget(flags, args)
	if err != nil {
		return err
	}
	params.Address = address
	params.Connected = func() { began("stream with %s runs", address) }
	ctx, cancel := when.context(ctx)
	defer cancel()
	return report(stream.Run(ctx, params))
}

// runConnect connects to all addresses at once and prints a list of reports in
// their order.
func runConnect(ctx context.Context, args []string) error {
	var params connect.Params
	var when span
	flags := newFlags("connect", "ADDR:PORT...")
	when.add(flags)
	rate := flags.Int("rate", 100, "connections a second, to each address")
	flags.DurationVar(&params.Timeout, "timeout", 5*time.Second, "how long one may take")
	addresses, err := parseTargets(flags, args)
	if err != nil {
		return err
	}
	if *rate < 1 || *rate > 10000 {
		return fmt.Errorf("rate %d: want 1 to 10000", *rate)
	}
	params.Interval = time.Second / time.Duration(*rate)
	ctx, cancel := when.context(ctx)
	defer cancel()
	reports := make([]connect.Report, len(addresses))
	var group sync.WaitGroup
	for i, address := range addresses {
		own := params
		own.Address = address
		own.Answered = func() { began("%s is answered", address) }
		group.Go(func() { reports[i] = connect.Run(ctx, own) })
	}
	group.Wait()
	return report(reports)
}

// runDatagram sends to all addresses at once and prints a list of reports in
// their order.
func runDatagram(ctx context.Context, args []string) error {
	var params datagram.Params
	var when span
	flags := newFlags("datagram", "ADDR:PORT...")
	when.add(flags)
	flags.DurationVar(&params.Interval, "interval", 20*time.Millisecond, "between two datagrams, from 1ms")
	addresses, err := parseTargets(flags, args)
	if err != nil {
		return err
	}
	if params.Interval < time.Millisecond {
		return errors.New("want an interval of 1ms at least")
	}
	ctx, cancel := when.context(ctx)
	defer cancel()
	reports := make([]datagram.Report, len(addresses))
	errs := make([]error, len(addresses))
	var group sync.WaitGroup
	for i, address := range addresses {
		own := params
		own.Address = address
		own.Answered = func(host string) { began("%s is answered by %s", address, host) }
		own.Sent = func() { began("%s is asked", address) }
		group.Go(func() { reports[i], errs[i] = datagram.Run(ctx, own) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return report(reports)
}

func runRoundTrips(ctx context.Context, args []string) error {
	var params bench.RoundTripParams
	flags := newFlags("rr", "ADDR:PORT")
	flags.IntVar(&params.Size, "size", 1, "bytes of a message each way")
	flags.DurationVar(&params.Time, "duration", 10*time.Second, "how long to measure")
	address, err := parseTarget(flags, args)
	if err != nil {
		return err
	}
	params.Address = address
	result, err := bench.RoundTrips(ctx, params)
	if err != nil {
		return err
	}
	return report(result)
}

func runThroughput(ctx context.Context, args []string) error {
	var params bench.ThroughputParams
	flags := newFlags("throughput", "ADDR:PORT")
	flags.BoolVar(&params.UDP, "udp", false, "UDP instead of TCP")
	flags.BoolVar(&params.Reverse, "reverse", false, "the server sends (TCP)")
	flags.IntVar(&params.Streams, "streams", 1, "TCP connections at once")
	flags.IntVar(&params.Size, "size", 0, "bytes of a write or a datagram (0: 131072 TCP, 1200 UDP)")
	flags.Float64Var(&params.Rate, "rate", 0, "bits a second to send (UDP; 0: no limit)")
	flags.DurationVar(&params.Time, "duration", 10*time.Second, "how long to send")
	address, err := parseTarget(flags, args)
	if err != nil {
		return err
	}
	params.Address = address
	if params.Size == 0 {
		params.Size = 128 << 10
		if params.UDP {
			params.Size = 1200
		}
	}
	result, err := bench.Throughput(ctx, params)
	if err != nil {
		return err
	}
	return report(result)
}

func runSockets(_ context.Context, args []string) error {
	flags := newFlags("sockets", "ADDR")
	if err := flags.Parse(args); err != nil {
		return err
	}
	address, err := netip.ParseAddr(flags.Arg(0))
	if err != nil {
		return err
	}
	connections, err := sockets.Established(address)
	if err != nil {
		return err
	}
	return report(connections)
}

// parseTarget reads the flags and the one address of a command.
func parseTarget(flags *flag.FlagSet, args []string) (netip.AddrPort, error) {
	addresses, err := parseTargets(flags, args)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(addresses) != 1 {
		flags.Usage()
		return netip.AddrPort{}, errors.New("want one ADDR:PORT")
	}
	return addresses[0], nil
}

// parseTargets reads the flags and the addresses of a command, at least one.
func parseTargets(flags *flag.FlagSet, args []string) ([]netip.AddrPort, error) {
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() == 0 {
		flags.Usage()
		return nil, errors.New("want ADDR:PORT")
	}
	var addresses []netip.AddrPort
	for _, text := range flags.Args() {
		address, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}
