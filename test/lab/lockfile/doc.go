// SPDX-License-Identifier: Apache-2.0

// Package lockfile holds locks between processes of the lab. A lock is an
// flock(2) on a file, which the kernel gives up when its holder ends in
// whatever way. The file stays, unless its holder removes it.
package lockfile
