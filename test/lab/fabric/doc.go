// SPDX-License-Identifier: Apache-2.0

// Package fabric writes the commands that make the network of a lab: the veth
// pairs between the hosts' namespaces, and addresses, routes and kernel
// settings within each host. It is pure. The commands are batches for ip(8),
// which do everything about a host in one process and which a person can read.
package fabric
