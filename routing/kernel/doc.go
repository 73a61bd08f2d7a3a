// SPDX-License-Identifier: Apache-2.0

// Package kernel is the adapter between routing and the Linux kernel of the
// node: routes, neighbours, interface addresses, sysctls, and the move of the
// node's NIC under a userspace switch. It alone speaks rtnetlink(7).
//
// # What it owns
//
//   - Routes of the main table with protocol 87: [Routes.Apply]. Routes of any
//     other protocol are never touched, also when they stand in the way.
//   - Routes of the main table with protocol 88, to Services: [ServiceRoutes.Apply].
//   - The permanent neighbours of the gateway interface: [Neighbours.Apply].
//   - The addresses and MTU of the gateway interface: [WaitLink], [ConfigureLink].
//   - The sysctls named in [EnsureSysctls].
//   - With the userspace datapath, which of NIC and bridge holds the node's
//     addresses and routes: [UplinkMover].
//
// [DiscoverUplink] only reads. [Watcher] tells when any of this may have
// changed behind our back.
//
// # How it is called
//
// The agent's reconcile loops call it, one goroutine a target; nothing here
// keeps state between calls but the mover's file. Every call reads what the
// kernel has, computes the difference as a pure function, and writes only the
// difference: a call with nothing to change sends no write at all. Failures do
// not stop the rest of a call; all are returned joined, with what was achieved.
// Everything acts on the network namespace of the calling thread.
package kernel
