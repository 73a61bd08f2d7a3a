// SPDX-License-Identifier: Apache-2.0

// Package serve holds the servers of `probe serve`: echo over TCP and UDP that
// greets with who is asked and who asks, HTTP pages with the same, and the
// servers of packages stream and bench. All listen in both families, where the
// host has them. UDP answers leave from the address that was asked.
//
// Each Run* function blocks until its context ends; one goroutine a connection
// serves it.
package serve
