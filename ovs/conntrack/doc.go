// SPDX-License-Identifier: Apache-2.0

// Package conntrack reads the connections that Open vSwitch tracks, as
// ovs-appctl dpctl/dump-conntrack prints them. It keeps nothing; who calls it
// may do so from any goroutine.
package conntrack
