// SPDX-License-Identifier: Apache-2.0

// Package imagestore makes nodes start with their images unpacked. For each
// set of image archives it fills a containerd root once, with a containerd of
// its own that runs for that only, and keeps it in the cache. A node gets a
// copy in which everything that never changes (contents, layers) is a hard
// link, and only the databases are files of its own.
//
// Prepare and Copy block; a file lock makes labs that start at the same time
// prepare once.
package imagestore
