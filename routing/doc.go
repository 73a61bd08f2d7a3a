// SPDX-License-Identifier: Apache-2.0

// Package routing decides, for every remote node and IP family, the one path
// its Pods are reached by, and holds the types in which routes, BGP peers and
// sessions are spoken of. It is pure: values in, values out, no goroutine, no
// clock, no system call. The adapters that act on its values are gobgp and
// kernel below it.
package routing
