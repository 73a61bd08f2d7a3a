// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/waymark-net/waymark/test/lab/lockfile"
)

// Recipe says how a folder of programs is made, once.
type Recipe struct {
	// Dir is the folder. Its name tells all that it is made from.
	Dir string
	// Lock is the file that keeps those who make it apart.
	Lock string
	// Making, if set, is called before it is made.
	Making func()
	// Make fills a new folder. What it writes to log is kept beside Dir.
	Make func(ctx context.Context, dir string, log *os.File) error
}

// Provide makes the folder, whole or not at all, unless it is there.
func (r Recipe) Provide(ctx context.Context) error {
	if there, err := exists(r.Dir); there || err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(r.Dir), 0o755); err != nil {
		return err
	}
	unlock, err := lockfile.Lock(ctx, r.Lock)
	if err != nil {
		return err
	}
	defer unlock()
	if there, err := exists(r.Dir); there || err != nil {
		return err
	}
	if r.Making != nil {
		r.Making()
	}
	return r.provide(ctx)
}

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (r Recipe) provide(ctx context.Context) error {
	fresh := r.Dir + ".tmp"
	if err := os.RemoveAll(fresh); err != nil { // of a build that was killed
		return err
	}
	if err := os.MkdirAll(fresh, 0o755); err != nil {
		return err
	}
	log, err := os.Create(r.Dir + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	if err := r.Make(ctx, fresh, log); err != nil {
		return fmt.Errorf("%w (log %s)", err, log.Name())
	}
	return os.Rename(fresh, r.Dir)
}
