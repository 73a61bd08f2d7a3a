// SPDX-License-Identifier: Apache-2.0

// Package hostports tells on which ports the node itself listens, so that a
// Service whose port is taken can be named. It reads /proc/net and has no
// state; any goroutine may call it.
package hostports
