// SPDX-License-Identifier: Apache-2.0

// Package connect makes connections at a steady rate and says of each whether
// it was answered, by whom, and as whom the server saw us. Connections end at
// the server's side (serve.Greet), so that no port of ours waits for the end of
// one. It is `probe connect`; end-to-end tests read its [Report].
//
// Run blocks until its context ends; one goroutine a connection makes it, one
// value guarded by a lock gathers what came of them.
package connect
