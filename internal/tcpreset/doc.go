// SPDX-License-Identifier: Apache-2.0

// Package tcpreset makes the segments that end a TCP connection from the middle
// of its path. The agent calls it when the switch has dropped a segment of an
// established connection that a policy has come to deny: without them both ends
// would wait for minutes. It has no state.
package tcpreset
