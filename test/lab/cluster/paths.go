// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	stateRoot = "/run/waymark-lab"
	dataRoot  = "/var/lib/waymark-lab"
	stateFile = "lab.json"
)

// paths are where a lab keeps things.
type paths struct {
	name string
}

func (p paths) state() string                { return filepath.Join(stateRoot, p.name) }
func (p paths) data() string                 { return filepath.Join(dataRoot, p.name) }
func (p paths) lock() string                 { return filepath.Join(stateRoot, p.name+".lock") }
func (p paths) hostState(host string) string { return filepath.Join(p.state(), host) }
func (p paths) hostData(host string) string  { return filepath.Join(p.data(), host) }

// CacheDir is where labs keep what they reuse: XDG_CACHE_HOME or /var/cache.
func CacheDir() string {
	root := os.Getenv("XDG_CACHE_HOME")
	if root == "" {
		root = "/var/cache"
	}
	return filepath.Join(root, "waymark-lab")
}

var moduleLine = regexp.MustCompile(`(?m)^module github\.com/waymark-net/waymark$`)

// Source is the root of the repository that holds the working directory: the
// lab builds images and programs from it.
func Source() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && moduleLine.Match(data) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the repository: no go.mod of Waymark in %s or above", start)
		}
	}
}

// Names are the labs that are recorded on this machine, whole or in parts.
func Names() ([]string, error) {
	var names []string
	for _, root := range []string{stateRoot, dataRoot} {
		entries, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list labs: %w", err)
		}
		for _, entry := range entries {
			if entry.IsDir() {
				names = append(names, entry.Name())
			}
		}
	}
	slices.SortFunc(names, strings.Compare)
	return slices.Compact(names), nil
}
