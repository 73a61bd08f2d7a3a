// SPDX-License-Identifier: Apache-2.0

// Package answer makes the packets that tell the ends of a connection, from the
// middle of its path, that it is over. The agent calls it when the switch has
// dropped a segment of an established TCP connection that a policy has come to
// deny: without them both ends would wait for minutes. It has no state.
package answer
