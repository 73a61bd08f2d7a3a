// SPDX-License-Identifier: Apache-2.0

// Package unixsocket makes the sockets on which the agent listens on its node.
package unixsocket
