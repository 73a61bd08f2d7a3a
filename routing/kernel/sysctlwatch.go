// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultSysctlInterval is how often a SysctlWatcher looks by itself.
const DefaultSysctlInterval = 500 * time.Millisecond

// SysctlWatcherParams are what NewSysctlWatcher needs.
type SysctlWatcherParams struct {
	// Interval is how often it looks without being told; 0 is DefaultSysctlInterval.
	Interval time.Duration
	// Notify is called from Run's goroutine with the paths of sysctls that are not
	// as wanted, and must return soon: it marks things dirty.
	Notify func(paths []string)
}

// SysctlWatcher looks whether the sysctls of EnsureSysctls are as that left them.
// The kernel tells of some (RTM_NEWNETCONF: forwarding, rp_filter,
// ignore_routes_with_linkdown) and inotify(7) of none, so that the rest is read
// from time to time: a few dozen small files.
type SysctlWatcher struct {
	p SysctlWatcherParams

	mu     sync.Mutex
	wanted *SysctlParams // nil before the first Watch
	told   []string      // since the last Watch
}

// NewSysctlWatcher makes a SysctlWatcher.
func NewSysctlWatcher(p SysctlWatcherParams) *SysctlWatcher {
	if p.Interval <= 0 {
		p.Interval = DefaultSysctlInterval
	}
	return &SysctlWatcher{p: p}
}

// Watch says what EnsureSysctls has made so. It may be called from any goroutine.
// What was notified is notified again only after that, so that a sysctl that cannot
// be written is not tried all the time.
func (w *SysctlWatcher) Watch(p SysctlParams) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted, w.told = &p, nil
}

// Run notifies until ctx is done, and then returns nil.
func (w *SysctlWatcher) Run(ctx context.Context) error {
	sub, err := subscribe(ctx, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF)
	if err != nil {
		return err
	}
	defer sub.close()
	told := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		for {
			_, err := sub.receive()
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				ended <- err
				return
			}
			select {
			case told <- struct{}{}:
			default:
			}
		}
	}()
	tick := time.NewTicker(w.p.Interval)
	defer tick.Stop()
	for {
		select {
		case err := <-ended: // also at the end of ctx
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("kernel notifications of sysctls: %w", err)
		case <-told:
		case <-tick.C:
		}
		w.look()
	}
}

func (w *SysctlWatcher) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wanted == nil {
		return
	}
	paths := driftedSysctls(*w.wanted)
	if len(paths) == 0 || slices.Equal(paths, w.told) {
		return
	}
	w.told = paths
	w.p.Notify(paths)
}
