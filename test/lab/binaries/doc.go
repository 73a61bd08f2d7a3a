// SPDX-License-Identifier: Apache-2.0

// Package binaries provides the Kubernetes programs of the lab and its name
// server: it builds the modules test/lab/kube and test/lab/coredns from the Go
// module proxy once for each content of them and keeps the results in the cache.
// A file lock makes labs that start at the same time build once; [Recipe] is the part of it that others use to
// keep programs that take long to build. Everything blocks and happens in the
// calling goroutine.
package binaries
