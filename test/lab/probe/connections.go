// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// runFollow prints each change as it comes.
func runFollow(ctx context.Context, args []string) error {
	var when span
	flags := newFlags("follow", "ADDR:PORT")
	when.add(flags)
	pause := flags.Duration("pause", time.Millisecond, "between the begins of two connections")
	address, err := parseTarget(flags, args)
	if err != nil {
		return err
	}
	if *pause <= 0 {
		return errors.New("want a pause above 0")
	}
	ctx, cancel := when.context(ctx)
	defer cancel()
	var failed error
	err = bench.Follow(ctx, address, *pause, func(c bench.Change) { failed = errors.Join(failed, report(c)) })
	return errors.Join(err, failed)
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
