// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Names of the images, as a kubelet resolves them.
const (
	// Product is the product's image without tag.
	Product = "docker.io/waymark/waymark"
	// Probe is the lab's own image: `pause`, servers and clients for tests.
	Probe = "docker.io/waymark-lab/probe:1"
)

// Options say what to build, and from what.
type Options struct {
	// Source is the root of the repository.
	Source string
	// CacheDir holds archives, storage and logs; empty is [DefaultCacheDir].
	CacheDir string
	// Tags of the product's image; none is "latest". The images of two tags
	// differ by a label, and so in their ID, as two releases do.
	Tags []string
	// Progress, if set, is told what begins, in a few words.
	Progress func(step string)
}

// Image is one image in an archive that `ctr images import` loads.
type Image struct {
	Name    string // with registry and tag
	Archive string // path of a docker-archive file
	Key     string // hash of all that it was made from
}

// DefaultCacheDir is where the lab keeps images: XDG_CACHE_HOME or /var/cache.
func DefaultCacheDir() string {
	root := os.Getenv("XDG_CACHE_HOME")
	if root == "" {
		root = "/var/cache"
	}
	return filepath.Join(root, "waymark-lab", "images")
}

// Build makes the product's image under each tag and the probe's, or finds them
// in the cache, and returns them in this order. It needs root, Go, mmdebstrap
// and buildah. An error names the step and the log of the tool that failed.
func Build(ctx context.Context, options Options) ([]Image, error) {
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
	for _, tag := range b.options.Tags {
		image, err := b.product(ctx, tag)
		if err != nil {
			return nil, fmt.Errorf("image %s:%s: %w", Product, tag, err)
		}
		images = append(images, image)
	}
	image, err := b.probe(ctx)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", Probe, err)
	}
	return append(images, image), b.prune()
}

// BuildProbe compiles the probe as a static program for use outside of Pods and
// returns its path in the cache.
func BuildProbe(ctx context.Context, options Options) (string, error) {
	b, err := newBuilder(ctx, options)
	if err != nil {
		return "", err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	path, _, err := b.probeBinary(ctx)
	return path, err
}

// product makes the product's image with one tag.
func (b *builder) product(ctx context.Context, tag string) (Image, error) {
	debian, err := b.debianKey(ctx)
	if err != nil {
		return Image{}, err
	}
	golang := keyOf(debian, recipe("golang"), b.env.Version)
	files, err := hashContext(b.options.Source)
	if err != nil {
		return Image{}, err
	}
	image := Image{Name: Product + ":" + tag, Key: keyOf(golang, files, tag)}
	image.Archive = b.archive("waymark-"+tag, image.Key)
	if b.cached(image) {
		return image, nil
	}
	if err := b.ensureDebian(ctx, debian); err != nil {
		return Image{}, err
	}
	if err := b.ensureGolang(ctx, golang); err != nil {
		return Image{}, err
	}
	b.progress("building image " + image.Name)
	for _, dir := range []string{b.env.Cache, b.env.ModCache} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return Image{}, err
		}
	}
	args := []string{
		"--build-arg", "GOPROXY=" + b.env.Proxy,
		"--build-arg", "GOSUMDB=" + b.env.SumDB,
		"--label", "org.opencontainers.image.version=lab-" + tag,
		"--volume", b.env.Cache + ":/go/cache",
		"--volume", b.env.ModCache + ":/go/pkg/mod",
		"--volume", "/etc/ssl/certs:/run/lab-certs:ro",
		"--file", filepath.Join(b.options.Source, "build", "Dockerfile"),
	}
	if err := b.bud(ctx, image.Name, b.options.Source, args...); err != nil {
		return Image{}, err
	}
	return image, b.export(ctx, image)
}

// probe makes the image of the probe.
func (b *builder) probe(ctx context.Context) (Image, error) {
	binary, key, err := b.probeBinary(ctx)
	if err != nil {
		return Image{}, err
	}
	return b.packed(ctx, packed{kind: "probe", name: Probe, program: binary, key: keyOf(key, recipe("probe"))})
}

// probeBinary compiles the probe, which takes a moment when Go's cache is warm,
// and keeps one file for each content.
func (b *builder) probeBinary(ctx context.Context) (path, key string, err error) {
	fresh := filepath.Join(b.tmp, "probe-binary")
	defer os.Remove(fresh)
	if err := b.compile(ctx, fresh, "./test/lab/probe"); err != nil {
		return "", "", err
	}
	key, err = hashFile(fresh)
	if err != nil {
		return "", "", err
	}
	path = filepath.Join(b.options.CacheDir, "probe-"+key[:12])
	if err := os.Rename(fresh, path); err != nil {
		return "", "", err
	}
	return path, key, nil
}

// archive is where the image of a key is kept.
func (b *builder) archive(name, key string) string {
	return filepath.Join(b.options.CacheDir, name+"-"+key[:12]+".tar")
}

// cached tells whether an image's archive is there, and marks it as used.
func (b *builder) cached(image Image) bool {
	now := time.Now()
	return os.Chtimes(image.Archive, now, now) == nil
}
