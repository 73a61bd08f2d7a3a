// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// BuildAgnhost makes an image of the program agnhost, which upstream test
// suites run in their Pods, under the name by which a suite asks for it. It has
// Debian's programs beside it (suites start shells), not the tools that the
// published image has.
func BuildAgnhost(ctx context.Context, options Options, name, program string) (Image, error) {
	b, err := newBuilder(ctx, options)
	if err != nil {
		return Image{}, err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	image, err := b.agnhost(ctx, name, program)
	if err != nil {
		return Image{}, fmt.Errorf("image %s: %w", name, err)
	}
	return image, b.prune()
}

func (b *builder) agnhost(ctx context.Context, name, program string) (Image, error) {
	debian, err := b.debianKey(ctx)
	if err != nil {
		return Image{}, err
	}
	key, err := hashFile(program)
	if err != nil {
		return Image{}, err
	}
	image := Image{Name: name, Key: keyOf(debian, key, recipe("agnhost"), name)}
	image.Archive = b.archive("agnhost", image.Key)
	if b.cached(image) {
		return image, nil
	}
	if err := b.ensureDebian(ctx, debian); err != nil {
		return Image{}, err
	}
	b.progress("building image " + name)
	dir, err := os.MkdirTemp(b.tmp, "agnhost")
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(dir)
	if err := copyFile(program, filepath.Join(dir, "agnhost")); err != nil {
		return Image{}, err
	}
	file, err := b.writeRecipe(dir, "agnhost")
	if err != nil {
		return Image{}, err
	}
	if err := b.bud(ctx, name, dir, "--file", file); err != nil {
		return Image{}, err
	}
	return image, b.export(ctx, image)
}
