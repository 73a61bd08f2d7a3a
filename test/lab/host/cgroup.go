// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hierarchy is one mounted cgroup tree: a version 1 tree with its controllers
// or name, or the version 2 tree if it has controllers.
type hierarchy struct {
	path    string
	unified bool
	options []string // version 1: what to mount it with
}

// cgroupParent is the folder of all labs in each hierarchy.
const cgroupParent = "waymark-lab"

var v1Controllers = []string{
	"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory",
	"net_cls", "net_prio", "perf_event", "pids", "rdma", "misc",
}

func readHierarchies() ([]hierarchy, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	hierarchies := hierarchiesOf(mounts, func(path string) bool {
		controllers, err := os.ReadFile(filepath.Join(path, "cgroup.controllers"))
		return err == nil && strings.TrimSpace(string(controllers)) != ""
	})
	if len(hierarchies) == 0 {
		return nil, errors.New("no cgroups with controllers are mounted on this machine")
	}
	return hierarchies, nil
}

// hierarchiesOf picks each cgroup tree once; hasControllers tells whether the
// version 2 tree at a path has any.
func hierarchiesOf(mounts []mount, hasControllers func(path string) bool) []hierarchy {
	var found []hierarchy
	seen := map[string]bool{}
	for _, m := range mounts {
		h := hierarchy{path: m.target}
		switch m.kind {
		case "cgroup2":
			if !hasControllers(m.target) {
				continue
			}
			h.unified = true
		case "cgroup":
			for _, option := range m.options {
				if strings.HasPrefix(option, "name=") {
					h.options = append(h.options, "none", option)
				} else if slices.Contains(v1Controllers, option) {
					h.options = append(h.options, option)
				}
			}
		default:
			continue
		}
		key := strings.Join(h.options, ",")
		if !seen[key] {
			seen[key] = true
			found = append(found, h)
		}
	}
	// On a machine with both, version 1 has the controllers that matter.
	if slices.ContainsFunc(found, func(h hierarchy) bool { return slices.Contains(h.options, "memory") }) {
		found = slices.DeleteFunc(found, func(h hierarchy) bool { return h.unified })
	}
	return found
}

// enter moves the calling process into the host's cgroup.
func (h hierarchy) enter(lab, host string) error {
	path := h.path
	for _, part := range []string{cgroupParent, lab, host} {
		if h.unified {
			if err := enableControllers(path); err != nil {
				return err
			}
		}
		parent := path
		path = filepath.Join(path, part)
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("create cgroup: %w", err)
		}
		if slices.Contains(h.options, "cpuset") {
			if err := inheritCPUSet(parent, path); err != nil {
				return err
			}
		}
	}
	return joinCgroup(path)
}

// delegate prepares the version 2 tree inside the new cgroup namespace: a
// cgroup with processes in it cannot hand controllers down.
func (h hierarchy) delegate(lab, host string) error {
	if !h.unified {
		return nil
	}
	own := filepath.Join(h.path, cgroupParent, lab, host)
	leaf := filepath.Join(own, "init")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create cgroup: %w", err)
	}
	if err := joinCgroup(leaf); err != nil {
		return err
	}
	return enableControllers(own)
}

func joinCgroup(path string) error {
	if err := os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte("0"), 0o644); err != nil {
		return fmt.Errorf("enter cgroup: %w", err)
	}
	return nil
}

func enableControllers(path string) error {
	controllers, err := os.ReadFile(filepath.Join(path, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read cgroup controllers: %w", err)
	}
	for _, name := range strings.Fields(string(controllers)) {
		if err := os.WriteFile(filepath.Join(path, "cgroup.subtree_control"), []byte("+"+name), 0o644); err != nil {
			return fmt.Errorf("enable cgroup controller %s in %s: %w", name, path, err)
		}
	}
	return nil
}

// inheritCPUSet fills in what a new version 1 cpuset leaves empty.
func inheritCPUSet(parent, path string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, name))
		if err != nil {
			return fmt.Errorf("read cpuset: %w", err)
		}
		if err := os.WriteFile(filepath.Join(path, name), value, 0o644); err != nil {
			return fmt.Errorf("fill cpuset: %w", err)
		}
	}
	return nil
}

// mountCgroups mounts every hierarchy below target, from within the host's
// cgroup namespace: a fresh sysfs shows none.
func mountCgroups(target string) error {
	hierarchies, err := readHierarchies()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(hierarchies, func(h hierarchy) bool { return h.unified }) {
		if err := unix.Mount("cgroup2", target, "cgroup2", 0, ""); err != nil {
			return fmt.Errorf("mount cgroups: %w", err)
		}
		return nil
	}
	if err := unix.Mount("cgroup", target, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount cgroups: %w", err)
	}
	for _, h := range hierarchies {
		names := strings.Join(h.options, ",")
		dir := strings.TrimPrefix(names, "none,name=")
		if err := os.Mkdir(filepath.Join(target, dir), 0o755); err != nil {
			return err
		}
		if err := unix.Mount("cgroup", filepath.Join(target, dir), "cgroup", 0, names); err != nil {
			return fmt.Errorf("mount cgroup %s: %w", names, err)
		}
		if !strings.Contains(dir, ",") {
			continue
		}
		for _, single := range strings.Split(dir, ",") {
			if err := os.Symlink(dir, filepath.Join(target, single)); err != nil {
				return err
			}
		}
	}
	return nil
}
