// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// setUpRoot gives the host its view of the file system.
func setUpRoot(spec Spec) error {
	if !spec.PrivateRoot {
		return adaptMachineRoot()
	}
	root := filepath.Join(spec.DataDir, "root")
	if err := buildRoot(spec, root); err != nil {
		return fmt.Errorf("build root: %w", err)
	}
	if err := enterRoot(root); err != nil {
		return err
	}
	if err := shadow(spec.Shadows); err != nil {
		return err
	}
	for _, f := range spec.Files {
		if err := writeFile(f); err != nil {
			return err
		}
	}
	return nil
}

// adaptMachineRoot shows the host's own processes, and lets go of the network
// namespaces that are pinned on the machine: a copy of such a mount would keep
// the namespace of another lab alive after it was removed.
func adaptMachineRoot() error {
	if err := detachBelow(netnsDir); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

func detachBelow(dir string) error {
	mounts, err := readMounts()
	if err != nil {
		return err
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		target := mounts[i].target
		if target != dir && !strings.HasPrefix(target, dir+"/") {
			continue
		}
		// EINVAL: went away with the mount above it.
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("detach %s: %w", target, err)
		}
	}
	return nil
}

// ownFolders are the folders at the top that a private root does not share
// with the machine; those without content stay empty.
var ownFolders = map[string]bool{
	"boot": true, "dev": true, "etc": true, "lost+found": true, "media": true, "mnt": true,
	"opt": true, "proc": true, "run": true, "sys": true, "var": true,
}

func buildRoot(spec Spec, root string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("root", root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount %s: %w", root, err)
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := addEntry(root, entry); err != nil {
			return err
		}
	}
	if err := addDiskFolders(spec.DataDir, root); err != nil {
		return err
	}
	if err := addKernelFolders(root); err != nil {
		return err
	}
	if spec.PrivateCgroup {
		if err := mountCgroups(filepath.Join(root, "sys/fs/cgroup")); err != nil {
			return err
		}
	}
	for _, b := range spec.Binds {
		target := filepath.Join(root, b.Target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := bind(b.Source, target); err != nil {
			return err
		}
	}
	return nil
}

func addEntry(root string, entry fs.DirEntry) error {
	source, target := "/"+entry.Name(), filepath.Join(root, entry.Name())
	switch {
	case entry.Type()&fs.ModeSymlink != 0:
		link, err := os.Readlink(source)
		if err != nil {
			return err
		}
		return os.Symlink(link, target)
	case !entry.IsDir():
		return nil
	}
	if err := os.Mkdir(target, 0o755); err != nil {
		return err
	}
	if ownFolders[entry.Name()] {
		return nil
	}
	return bind(source, target)
}

// addDiskFolders mounts what survives a restart of the host: /var and /opt
// start empty, /etc starts as the machine's.
func addDiskFolders(data, root string) error {
	upper, work := filepath.Join(data, "etc"), filepath.Join(data, "etc.work")
	for _, dir := range []string{
		upper, work, filepath.Join(data, "opt"),
		filepath.Join(data, "var/lib"), filepath.Join(data, "var/cache"), filepath.Join(data, "var/log"),
		filepath.Join(data, "var/spool"), filepath.Join(data, "var/tmp"),
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(data, "var/tmp"), 0o777|fs.ModeSticky); err != nil {
		return err
	}
	for link, target := range map[string]string{"var/run": "/run", "var/lock": "/run/lock"} {
		if err := os.Symlink(target, filepath.Join(data, link)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for _, name := range []string{"var", "opt"} {
		if err := bind(filepath.Join(data, name), filepath.Join(root, name)); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=/etc,upperdir=%s,workdir=%s", upper, work)
	if err := unix.Mount("etc", filepath.Join(root, "etc"), "overlay", 0, options); err != nil {
		return fmt.Errorf("mount /etc (%s): %w", options, err)
	}
	return nil
}

func addKernelFolders(root string) error {
	if err := bind("/dev", filepath.Join(root, "dev")); err != nil {
		return err
	}
	mounts := []struct{ source, target, kind, options string }{
		{"proc", "proc", "proc", ""},
		{"sysfs", "sys", "sysfs", ""},
		{"run", "run", "tmpfs", "mode=755"},
		{"shm", "dev/shm", "tmpfs", "mode=1777"},
	}
	for _, m := range mounts {
		target := filepath.Join(root, m.target)
		if _, err := os.Stat(target); m.target == "dev/shm" && errors.Is(err, fs.ErrNotExist) {
			continue // a machine without, which need not get one
		}
		if err := unix.Mount(m.source, target, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mount /%s: %w", m.target, err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "sys/fs/bpf")); err == nil {
		if err := unix.Mount("bpf", filepath.Join(root, "sys/fs/bpf"), "bpf", 0, ""); err != nil {
			return fmt.Errorf("mount /sys/fs/bpf: %w", err)
		}
	}
	for _, dir := range []string{"run/lock", "run/netns"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// enterRoot makes root the root and lets go of the machine's. Mounts are then
// shared within the host, as on a machine with systemd: kubelet relies on it.
func enterRoot(root string) error {
	old := filepath.Join(root, "old")
	if err := os.Mkdir(old, 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, old); err != nil {
		return fmt.Errorf("change root to %s: %w", root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the machine's root: %w", err)
	}
	if err := os.Remove("/old"); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts within the host: %w", err)
	}
	return nil
}

func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	return nil
}

// shadow covers kernel settings that all hosts and the machine share.
func shadow(keys []string) error {
	dir := "/run/waymark-lab-sysctl"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, key := range keys {
		path := filepath.Join("/proc/sys", key)
		value, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		file := filepath.Join(dir, strings.ReplaceAll(key, "/", "."))
		if err := os.WriteFile(file, value, 0o644); err != nil {
			return err
		}
		if err := bind(file, path); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(f File) error {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return err
	}
	// Removed first: the file may be a link into the machine's files.
	if err := os.Remove(f.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(f.Path, f.Content, f.Mode); err != nil {
		return err
	}
	if f.Owner == "" {
		return nil
	}
	account, err := user.Lookup(f.Owner)
	if err != nil {
		return fmt.Errorf("owner of %s: %w", f.Path, err)
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		return fmt.Errorf("owner of %s: %w", f.Path, err)
	}
	gid, err := strconv.Atoi(account.Gid)
	if err != nil {
		return fmt.Errorf("owner of %s: %w", f.Path, err)
	}
	return os.Chown(f.Path, uid, gid)
}
