// SPDX-License-Identifier: Apache-2.0

// Package router tells the userspace datapath of Open vSwitch the way to the far
// ends of tunnels, through its control socket.
//
// That datapath sends tunnelled packets itself and has a routing table of its own
// for them (ovs-appctl ovs/route/show). What it copies from the kernel it throws
// away and reads again whenever any route or link of the node changes, and drops
// what comes in between. Routes that were given to it stay. The same holds for the
// link-layer addresses of next hops (tnl/neigh/show): it asks for one that it does
// not know, and drops the packet that it would have been for.
//
// The agent's node loop is the only caller.
package router
