// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// CoreDNS is the name of the image of the lab's name server.
const CoreDNS = "docker.io/waymark-lab/coredns:1"

// BuildCoreDNS makes the image of the lab's name server from its program.
func BuildCoreDNS(ctx context.Context, options Options, program string) (Image, error) {
	return buildOne(ctx, options, CoreDNS, func(b *builder) (Image, error) {
		key, err := hashFile(program)
		if err != nil {
			return Image{}, err
		}
		return b.packed(ctx, packed{kind: "coredns", name: CoreDNS, program: program, key: keyOf(key, recipe("coredns"))})
	})
}

// BuildAgnhost makes an image of the program agnhost, which upstream test
// suites run in their Pods, under the name by which a suite asks for it. It has
// Debian's programs beside it (suites start shells), not the tools that the
// published image has.
func BuildAgnhost(ctx context.Context, options Options, name, program string) (Image, error) {
	return buildOne(ctx, options, name, func(b *builder) (Image, error) {
		debian, err := b.debianKey(ctx)
		if err != nil {
			return Image{}, err
		}
		key, err := hashFile(program)
		if err != nil {
			return Image{}, err
		}
		return b.packed(ctx, packed{
			kind: "agnhost", name: name, program: program, key: keyOf(debian, key, recipe("agnhost"), name),
			prepare: func() error { return b.ensureDebian(ctx, debian) },
		})
	})
}

// buildOne makes one image under the lock of all builds.
func buildOne(ctx context.Context, options Options, name string, build func(b *builder) (Image, error)) (Image, error) {
	b, err := newBuilder(ctx, options)
	if err != nil {
		return Image{}, err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	image, err := build(b)
	if err != nil {
		return Image{}, fmt.Errorf("image %s: %w", name, err)
	}
	return image, b.prune()
}

// packed is an image of one program and what its recipe has beside it.
type packed struct {
	// kind names the recipe and the program in it.
	kind, name, program string
	// key is the hash of all that it is made from.
	key string
	// prepare, if set, makes what the recipe begins with.
	prepare func() error
}

// packed makes such an image or finds it in the cache.
func (b *builder) packed(ctx context.Context, p packed) (Image, error) {
	image := Image{Name: p.name, Key: p.key, Archive: b.archive(p.kind, p.key)}
	if b.cached(image) {
		return image, nil
	}
	if p.prepare != nil {
		if err := p.prepare(); err != nil {
			return Image{}, err
		}
	}
	b.progress("building image " + p.name)
	dir, err := os.MkdirTemp(b.tmp, p.kind)
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(dir)
	if err := copyFile(p.program, filepath.Join(dir, p.kind)); err != nil {
		return Image{}, err
	}
	file, err := b.writeRecipe(dir, p.kind)
	if err != nil {
		return Image{}, err
	}
	if err := b.bud(ctx, p.name, dir, "--file", file); err != nil {
		return Image{}, err
	}
	return image, b.export(ctx, image)
}
