// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// keyOf hashes its parts; their boundaries count.
func keyOf(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hash %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// hashContext hashes names, modes and contents of the files of a build context
// that its .dockerignore leaves in.
func hashContext(root string) (string, error) {
	ignore, err := readIgnore(filepath.Join(root, ".dockerignore"))
	if err != nil {
		return "", err
	}
	var parts []string
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil || rel == "." {
			return err
		}
		if ignore.match(filepath.ToSlash(rel)) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		sum, err := hashFile(name)
		if err != nil {
			return err
		}
		parts = append(parts, rel, info.Mode().Perm().String(), sum)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("build context %s: %w", root, err)
	}
	return keyOf(parts...), nil
}

// ignoreRules are the patterns of a .dockerignore file, of the two kinds that
// this repository's uses: a path from the root, and **/ with a glob that matches
// the last element of a path anywhere.
type ignoreRules struct {
	paths []string
	globs []string
}

func readIgnore(name string) (ignoreRules, error) {
	f, err := os.Open(name)
	if err != nil {
		return ignoreRules{}, err
	}
	defer f.Close()
	var rules ignoreRules
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		pattern := strings.TrimSpace(scanner.Text())
		if pattern == "" || strings.HasPrefix(pattern, "#") {
			continue
		}
		glob, anywhere := strings.CutPrefix(pattern, "**/")
		switch {
		case anywhere && !strings.Contains(glob, "/"):
			rules.globs = append(rules.globs, glob)
		case !anywhere && !strings.ContainsAny(pattern, "*?[!"):
			rules.paths = append(rules.paths, path.Clean(pattern))
		default:
			return ignoreRules{}, fmt.Errorf("%s: pattern %q is of a kind that this reader does not know", name, pattern)
		}
	}
	return rules, scanner.Err()
}

// match tells whether a slash-separated path is left out. Directories are asked
// before what is in them.
func (r ignoreRules) match(rel string) bool {
	for _, p := range r.paths {
		if rel == p {
			return true
		}
	}
	for _, glob := range r.globs {
		if ok, _ := path.Match(glob, path.Base(rel)); ok {
			return true
		}
	}
	return false
}
