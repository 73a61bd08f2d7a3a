// SPDX-License-Identifier: Apache-2.0

// Package handover has a node's BFD sessions survive the end of the process that
// has them. BGP routers keep the routes of a speaker that restarts (graceful
// restart), but not if BFD with it ends.
//
//	turn, err := handover.Take(ctx, dir)  // the routing speaker
//	go handover.Standby(ctx, dir)         // the agent
//
// # Whose turn it is
//
// The kernel decides, by locks (flock) on two files, which end with the process
// that has them. A speaker that lives has the first, whoever sends has the second.
// The standby sends when both are free, and until the first is taken. There are
// never two that send: the second lock is given up only when the engine has
// ended.
//
// # What goes over
//
// The checkpoint (bfd.Checkpoint) is a third file, replaced as a whole whenever
// it changes, by whoever has the second lock. It is not synced: a machine that
// restarts has no sessions to go on with.
//
// The standby changes no sessions: what is wanted is the speaker's to know. What
// happened to them meanwhile is in the checkpoint that the speaker then takes.
package handover
