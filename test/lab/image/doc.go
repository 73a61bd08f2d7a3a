// SPDX-License-Identifier: Apache-2.0

// Package image builds the images that the lab's nodes run, on a machine that
// can pull none: the product's, from the very Dockerfile a user builds, and the
// lab's own probe (also the sandbox image of containerd).
//
// The images that the Dockerfile starts FROM are made here under their public
// names, in a storage of the lab's own so that the machine's images stay as
// they are: debian:bookworm-slim by mmdebstrap from the machine's own package
// sources, golang:1.26-bookworm from that and the machine's Go. buildah then
// builds with the machine's Go caches mounted. The results are docker-archive
// files in the lab's cache directory, named by a hash of everything they are
// made from: nothing is built twice, and a change of the code builds only the
// last layer.
//
// [Build] is called by the lab before it starts its first node, and by tests
// that need a second tag, [BuildPacked] by what runs upstream test suites.
// Everything happens in the calling goroutine; a file lock keeps builds of
// several labs apart. Each tool runs in mount and PID namespaces of its own,
// which end with it however it ends.
package image
