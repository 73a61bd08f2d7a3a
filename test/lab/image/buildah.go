// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	debianImage = "docker.io/library/debian:bookworm-slim"
	golangImage = "docker.io/library/golang:1.26-bookworm"
	// keyLabel on an image of the storage holds the hash it was made from.
	keyLabel = "io.waymark.lab.key"
)

// storage returns buildah's arguments for the lab's own storage. Overlay needs a
// file system that it can lie on; vfs copies and works everywhere.
func (b *builder) storage(ctx context.Context) []string {
	arguments := func(driver string) []string {
		return []string{
			"--root", filepath.Join(b.options.CacheDir, "storage-"+driver),
			"--runroot", filepath.Join(b.tmp, "run-"+driver),
			"--storage-driver", driver,
		}
	}
	if b.driver == "" {
		b.driver = "overlay"
		if err := b.tool(ctx, "buildah", append(arguments("overlay"), "info")...); err != nil {
			b.driver = "vfs"
		}
	}
	return arguments(b.driver)
}

func (b *builder) buildah(ctx context.Context, args ...string) error {
	return b.tool(ctx, "buildah", append(b.storage(ctx), args...)...)
}

// bud builds an image of the storage from a Dockerfile, with what is cached of
// its layers.
func (b *builder) bud(ctx context.Context, name, contextDir string, args ...string) error {
	// What a build that was killed has left in the storage; nobody else uses it.
	if err := b.buildah(ctx, "rm", "--all"); err != nil {
		return err
	}
	all := append([]string{
		"bud", "--isolation", "chroot", "--network", "host", "--layers", "--pull-never",
		"--format", "docker", "--tag", name,
	}, args...)
	return b.buildah(ctx, append(all, contextDir)...)
}

// export writes an image of the storage to its archive, whole or not at all.
func (b *builder) export(ctx context.Context, image Image) error {
	b.progress("writing " + filepath.Base(image.Archive))
	fresh := filepath.Join(b.tmp, filepath.Base(image.Archive))
	defer os.Remove(fresh)
	if err := b.buildah(ctx, "push", image.Name, "docker-archive:"+fresh+":"+image.Name); err != nil {
		return err
	}
	// Layers of earlier builds that no image needs any more.
	if err := b.buildah(ctx, "rmi", "--prune"); err != nil {
		return err
	}
	return os.Rename(fresh, image.Archive)
}

// has tells whether the storage holds an image made from a key.
func (b *builder) has(ctx context.Context, name, key string) bool {
	args := append(b.storage(ctx), "inspect", "--type", "image",
		"--format", fmt.Sprintf("{{index .Docker.Config.Labels %q}}", keyLabel), name)
	out, err := exec.CommandContext(ctx, "buildah", args...).Output()
	return err == nil && strings.TrimSpace(string(out)) == key
}

// debianKey is what the Debian base image is made from. It does not change with
// Debian's security updates: deleting the cache directory renews the image.
func (b *builder) debianKey(ctx context.Context) (string, error) {
	args, err := b.mmdebstrapArgs(ctx)
	if err != nil {
		return "", err
	}
	return keyOf(strings.Join(args, "\n"), recipe("debian")), nil
}

// mmdebstrapArgs are all arguments but the file to write. Like the public image
// of this name it has no manuals and starts no daemon when a package is
// installed.
func (b *builder) mmdebstrapArgs(ctx context.Context) ([]string, error) {
	sources, err := debianSources("/etc/apt")
	if err != nil {
		return nil, err
	}
	dump, err := exec.CommandContext(ctx, "apt-config", "dump", "Acquire").Output()
	if err != nil {
		return nil, fmt.Errorf("apt-config dump: %w", err)
	}
	args := []string{"--variant=minbase", "--mode=root"}
	for _, option := range aptOptions(string(dump)) {
		args = append(args, "--aptopt="+option)
	}
	for _, source := range sources {
		if strings.Contains(source, " https:") {
			args = append(args, "--include=ca-certificates")
			break
		}
	}
	args = append(args,
		`--aptopt=Acquire::Languages "none"`,
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-include=/usr/share/doc/*/copyright",
		// A merged /usr from the start: otherwise a package merges it, with Perl.
		"--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--include=usr-is-merged",
		"--format=tar", suite, "-",
	)
	return append(args, sources...), nil
}

// ensureDebian makes the base image, unless the storage has it.
func (b *builder) ensureDebian(ctx context.Context, key string) error {
	if b.has(ctx, debianImage, key) {
		return nil
	}
	b.progress("making the Debian base image with mmdebstrap")
	args, err := b.mmdebstrapArgs(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.tmp, "debian")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i, arg := range args {
		if arg == "-" {
			args[i] = filepath.Join(dir, "base.tar")
		}
	}
	if err := b.tool(ctx, "mmdebstrap", args...); err != nil {
		return err
	}
	file, err := b.writeRecipe(dir, "debian")
	if err != nil {
		return err
	}
	policy := filepath.Join(dir, "policy-rc.d")
	if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return err
	}
	return b.bud(ctx, debianImage, dir, "--file", file, "--label", keyLabel+"="+key)
}

// ensureGolang makes the builder image from the base image and the machine's
// Go, unless the storage has it.
func (b *builder) ensureGolang(ctx context.Context, key string) error {
	if b.has(ctx, golangImage, key) {
		return nil
	}
	b.progress("making the Go image from " + b.env.Version)
	file, err := b.writeRecipe(b.tmp, "golang")
	if err != nil {
		return err
	}
	return b.bud(ctx, golangImage, b.env.Root, "--file", file, "--label", keyLabel+"="+key)
}

// writeRecipe writes one of the lab's own Dockerfiles to a directory.
func (b *builder) writeRecipe(dir, name string) (string, error) {
	file := filepath.Join(dir, name+".Dockerfile")
	return file, os.WriteFile(file, []byte(recipe(name)), 0o644)
}

// copyFile copies a program.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return out.Close()
}
