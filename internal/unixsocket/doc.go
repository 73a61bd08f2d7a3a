// SPDX-License-Identifier: Apache-2.0

// Package unixsocket makes the sockets on which the programs of a node listen.
package unixsocket
