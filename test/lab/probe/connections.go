// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os"
	"time"

	"github.com/waymark-net/waymark/test/lab/probe/bench"
)

func runConnections(ctx context.Context, args []string) error {
	var params bench.ConnectParams
	flags := newFlags("connections", "ADDR:PORT")
	flags.IntVar(&params.Parallel, "parallel", 4, "connections at once")
	flags.DurationVar(&params.Time, "duration", 10*time.Second, "how long to measure")
	address, err := parseTarget(flags, args)
	if err != nil {
		return err
	}
	params.Address = address
	result, err := bench.Connect(ctx, params)
	if err != nil {
		return err
	}
	return report(result)
}

// runFollow says on standard error when the first connection was answered.
func runFollow(ctx context.Context, args []string) error {
	var params bench.FollowParams
	flags := newFlags("follow", "ADDR:PORT")
	port := flags.Uint("port", 0, "port of the server that is waited for")
	flags.DurationVar(&params.Every, "every", time.Millisecond, "between the begins of two connections")
	flags.DurationVar(&params.Timeout, "timeout", 500*time.Millisecond, "how long one may take")
	flags.DurationVar(&params.After, "after", 200*time.Millisecond, "how long to go on after the first answer of that port")
	flags.DurationVar(&params.Limit, "limit", 10*time.Second, "how long to wait for it")
	address, err := parseTarget(flags, args)
	if err != nil {
		return err
	}
	if *port < 1 || *port > math.MaxUint16 {
		return fmt.Errorf("port %d: want 1 to %d", *port, math.MaxUint16)
	}
	params.Address, params.Port = address, uint16(*port)
	params.Answered = func() { began("%s is answered", address) }
	result, err := bench.Follow(ctx, params)
	if err != nil {
		return err
	}
	return report(result)
}

// runSweep reads a JSON list of addresses with ports from standard input.
func runSweep(ctx context.Context, args []string) error {
	flags := newFlags("sweep", "< ADDRESSES")
	parallel := flags.Int("parallel", 8, "addresses tried at once")
	limit := flags.Duration("limit", time.Minute, "how long to try")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var addresses []netip.AddrPort
	if err := json.NewDecoder(os.Stdin).Decode(&addresses); err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	result, err := bench.Sweep(ctx, addresses, *parallel)
	if err != nil {
		return err
	}
	return report(result)
}
