// SPDX-License-Identifier: Apache-2.0

// Package datagram sends datagrams at a steady rate from one port, as a client
// does that never gives up its socket, and says who answered when. It is `probe
// datagram`; the server is serve.UDPEcho, and end-to-end tests read its [Report].
//
// Run blocks until its context ends. One goroutine sends, the caller's reads.
package datagram
