// SPDX-License-Identifier: Apache-2.0

// Package unixctl sends single commands to the daemons of Open vSwitch, as
// ovs-appctl(8) does: JSON-RPC 1.0 over a Unix socket, one connection a command.
// The agent uses it for what can be set in no other way.
package unixctl
