// SPDX-License-Identifier: Apache-2.0

// Package sockets tells which connections a host has.
package sockets
