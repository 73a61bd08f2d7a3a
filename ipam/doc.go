// SPDX-License-Identifier: Apache-2.0

// Package ipam gives Pods their addresses: one a family, out of the node's Pod
// CIDRs, with the allocator and the on-disk store of the host-local plugin as a
// library. The first address of a Pod CIDR is the gateway's, the second is that
// of the node's Services, the third that of probes, and none is given away; a Pod that
// held one of them from before keeps it. Addresses are taken round robin, so that a released one rests as long
// as possible.
//
// The store is a directory with one file an address, in host-local's format,
// guarded by flock(2): what is allocated survives a restart of the agent, and a
// person can read it with cat. An index in memory answers what host-local would
// answer by reading every file; it is read anew when the directory was changed
// by anything but this Allocator.
//
// The agent owns one Allocator; all methods may be called from any goroutine.
package ipam
