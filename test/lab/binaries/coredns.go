// SPDX-License-Identifier: Apache-2.0

package binaries

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// CoreDNS builds the name server of the lab's clusters from the module
// test/lab/coredns, which is Source, and returns the path of the program.
func CoreDNS(ctx context.Context, p Params) (string, error) {
	key, version, err := identify(p.Source, "main.go", "github.com/coredns/coredns")
	if err != nil {
		return "", err
	}
	r := Recipe{
		Dir:    filepath.Join(p.CacheDir, "coredns", version+"-"+key),
		Lock:   filepath.Join(p.CacheDir, "coredns.lock"),
		Making: p.Building,
		Make: func(ctx context.Context, dir string, log *os.File) error {
			return Go(ctx, p.Source, log, "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "coredns"), ".")
		},
	}
	if err := r.Provide(ctx); err != nil {
		return "", fmt.Errorf("build CoreDNS %s: %w", version, err)
	}
	return filepath.Join(r.Dir, "coredns"), nil
}
