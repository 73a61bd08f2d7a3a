// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/waymark-net/waymark/test/report"
)

func main() {
	out := flag.String("out", "out", "directory of the reports")
	flag.Parse()
	roots := flag.Args()
	if len(roots) == 0 {
		roots = []string{"docs", "README.md"}
	}
	if err := run(*out, roots); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(out string, roots []string) error {
	var errs []error
	for _, root := range roots {
		errs = append(errs, filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".md") {
				return err
			}
			return fill(name, out)
		}))
	}
	return errors.Join(errs...)
}

// fill updates one document and says what it did.
func fill(name, out string) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	text, err := report.Fill(string(old), func(file string) (*report.Report, error) {
		r, err := report.Read(filepath.Join(out, file))
		if errors.Is(err, fs.ErrNotExist) {
			fmt.Printf("%s: no %s: left as it is\n", name, filepath.Join(out, file))
			return nil, nil
		}
		return r, err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if text == string(old) {
		return nil
	}
	fmt.Printf("%s: updated\n", name)
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), info.Mode().Perm())
}
