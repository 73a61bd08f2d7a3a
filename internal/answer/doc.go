// SPDX-License-Identifier: Apache-2.0

// Package answer makes the packets that tell the ends of a connection, from the
// middle of its path, that it is over or cannot begin. It has no state.
//
// Package enforce calls it when the switch has dropped a segment of an
// established TCP connection that a policy has come to deny: without a reset
// both ends would wait for minutes. Package refuse calls it for what goes to a
// Service that nobody serves: without an answer the client would wait.
package answer
