// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/lockfile"
)

// Down removes the lab and everything of it but what is cached.
func (l *Lab) Down(ctx context.Context) error { return Down(ctx, l.name) }

// Down removes a lab by name, in whatever state it is. It is no error when
// there is nothing of it.
func Down(ctx context.Context, name string) error {
	if !host.ValidName(name) {
		return fmt.Errorf("remove lab: %q is no name of a lab", name)
	}
	p := paths{name}
	unlock, err := lockfile.Lock(ctx, p.lock())
	if err != nil {
		return err
	}
	defer unlock()
	if err := remove(ctx, p); err != nil {
		return fmt.Errorf("remove lab %s: %w", name, err)
	}
	if err := os.Remove(p.lock()); err != nil {
		return fmt.Errorf("remove lab %s: %w", name, err)
	}
	for _, root := range []string{stateRoot, dataRoot} {
		_ = os.Remove(root) // fails while other labs are there
	}
	return nil
}

// remove ends the hosts and deletes the folders; with the hosts go their
// mounts, links, processes and containers.
func remove(ctx context.Context, p paths) error {
	if err := host.Cleanup(ctx, p.name); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(p.data()), os.RemoveAll(p.state()))
}
