// SPDX-License-Identifier: Apache-2.0

// Package frr writes the configuration of the lab's routers and says how their
// daemons are run. It is pure; each router runs zebra, bgpd and bfdd from FRR
// in a host of its own with a private root, at the usual paths, so that vtysh
// needs no options there. Every daemon has its own configuration file, so that
// one that was killed comes back with it.
package frr
