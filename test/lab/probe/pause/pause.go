// SPDX-License-Identifier: Apache-2.0

package pause

import (
	"context"
	"errors"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Run blocks until ctx ends.
func Run(ctx context.Context) error {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	defer signal.Stop(children)
	for {
		if err := reap(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-children:
		}
	}
}

// reap collects every child that has ended.
func reap() error {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil:
			return err
		case pid == 0:
			return nil
		}
	}
}
