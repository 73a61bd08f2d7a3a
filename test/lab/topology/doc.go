// SPDX-License-Identifier: Apache-2.0

// Package topology turns the description of a lab's network into hosts, links
// and addresses. It is pure: it touches nothing, and equal input gives equal
// output, so a lab can be rebuilt from what was recorded of it.
//
// The shape is always the same. Every rack has a switch (a host with a bridge),
// one or two top-of-rack routers (ToRs) and its nodes on it. All ToRs, the
// control-plane host and the external host "client" are linked to one spine.
//
//	n1  n2        n3
//	 |   |         |
//	[rackA]      [rackB]
//	   |            |
//	  torA        torB
//	     \        /
//	cp -- spine -- client
//
// The package fabric makes it real; the package frr writes the routers'
// configuration.
package topology
