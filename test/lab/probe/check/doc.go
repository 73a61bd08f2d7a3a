// SPDX-License-Identifier: Apache-2.0

// Package check tries many targets at once, each with one exchange over TCP,
// UDP, ICMP or HTTP, and says for each whether it answered, how fast, and which
// address of ours it saw; or looks up a name. The servers are those of package serve. The types are
// the JSON of `probe check`; the matrix and end-to-end tests read them.
package check
