// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// CoreDNS is the name of the image of the lab's name server.
const CoreDNS = "docker.io/waymark-lab/coredns:1"

// Packed is an image of programs of the machine, and of Debian's.
type Packed struct {
	Name   string // with registry and tag
	Recipe string // of the lab's own Dockerfiles
	// Programs are the machine's files that the recipe copies, by name there.
	Programs map[string]string
}

// BuildCoreDNS makes the image of the lab's name server from its program.
func BuildCoreDNS(ctx context.Context, options Options, program string) (Image, error) {
	images, err := BuildPacked(ctx, options, []Packed{{
		Name: CoreDNS, Recipe: "coredns", Programs: map[string]string{"coredns": program},
	}})
	if err != nil {
		return Image{}, err
	}
	return images[0], nil
}

// BuildPacked makes images, or finds them in the cache, and returns them in this
// order.
func BuildPacked(ctx context.Context, options Options, wanted []Packed) ([]Image, error) {
	b, err := newBuilder(ctx, options)
	if err != nil {
		return nil, err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var images []Image
	for _, p := range wanted {
		image, err := b.packed(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", p.Name, err)
		}
		images = append(images, image)
	}
	return images, b.prune()
}

// packed makes one image or finds it in the cache.
func (b *builder) packed(ctx context.Context, p Packed) (Image, error) {
	debian, err := b.debianKey(ctx)
	if err != nil {
		return Image{}, err
	}
	onDebian := strings.Contains(recipe(p.Recipe), "\nFROM debian:")
	parts := []string{p.Name, recipe(p.Recipe)}
	if onDebian {
		parts = append(parts, debian)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Programs)) {
		key, err := hashFile(p.Programs[name])
		if err != nil {
			return Image{}, err
		}
		parts = append(parts, name, key)
	}
	image := Image{Name: p.Name, Key: keyOf(parts...)}
	image.Archive = b.archive(p.Recipe, image.Key)
	if b.cached(image) {
		return image, nil
	}
	if onDebian {
		if err := b.ensureDebian(ctx, debian); err != nil {
			return Image{}, err
		}
	}
	return image, b.pack(ctx, p, image)
}

// pack builds an image that is not in the cache.
func (b *builder) pack(ctx context.Context, p Packed, image Image) error {
	b.progress("building image " + p.Name)
	dir, err := os.MkdirTemp(b.tmp, p.Recipe)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for name, program := range p.Programs {
		if err := copyFile(program, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	file, err := b.writeRecipe(dir, p.Recipe)
	if err != nil {
		return err
	}
	if err := b.bud(ctx, p.Name, dir, "--file", file); err != nil {
		return err
	}
	return b.export(ctx, image)
}
