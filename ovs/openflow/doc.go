// SPDX-License-Identifier: Apache-2.0

// Package openflow puts flows and groups into an Open vSwitch bridge and keeps
// them there. It speaks OpenFlow 1.5 over the bridge's management socket.
//
// # Use
//
//	t := openflow.New(openflow.Params{Socket: "/var/run/openvswitch/br-int.mgmt"})
//	go t.Run(ctx)                      // owns the connection
//	err := t.Update(owner, flows, nil) // declares all that owner wants
//	err = t.Patch(changes...)          // changes some flows of several owners
//	err = t.Sync(ctx, owner)           // waits until the switch has it
//	t.Delete(owner)
//	t.Prune(isLive)
//	t.Complete()                       // from now on the rest may be removed
//
// Update, Patch, Delete, Prune and Complete only record intent and may be called
// at any time, also without a connection. What one call records is sent in one
// atomic bundle, followed by a barrier, together with whatever else was recorded
// by then. Open vSwitch sets no limit to a bundle; one of 100,000 flows takes
// three seconds and 130 MB of the memory of ovs-vswitchd, most of which are the
// flows themselves.
//
// # Adoption
//
// After every connect the Target reads what the switch holds and sends only
// the difference, so a restart with nothing changed sends nothing. Until
// Complete is called flows are added and modified but never deleted, because
// the owners of flows left by an earlier run may not have been declared yet.
// After Complete the bridge belongs to the Target: whatever nobody declared is
// removed.
//
// The flows that the switch itself makes for flow.Learn actions are in tables of
// their own (Params.Learned), of which the Target knows nothing; LearnedFlows and
// RemoveLearned look at them and take them away.
//
// # Fragments
//
// On every connection the bridge is put into the fragment mode "nx-match" of
// Open vSwitch, so that a flow that matches a port or an ICMP type matches first
// fragments too. In the default mode those show zeros.
//
// # Audit
//
// The switch says when somebody else changes flows (flow monitoring). Then at once,
// and else every AuditInterval, the flows and groups are read again and differences
// are repaired and counted; for no more than a part of the time, a fifth and a
// twentieth. The audit also finds a switch that no longer answers: after 30 s
// without a reply the connection is given up and made again. Echo requests of the
// switch are answered at any time.
//
// # Refusal
//
// A bundle that the switch refuses changes nothing. The owner of the refused
// flow is left out and the rest is sent again; Sync tells that owner why. What
// it had before stays in the switch, and its change is tried again when it is
// updated, after a reconnect, and every 30 s.
//
// # Goroutines
//
// Run owns the connection and the picture of the switch; intent is behind a
// mutex. A further goroutine of Run reads from the socket.
//
// libOpenflow is used to lay out messages only. Its stream reader reorders
// messages and its decoder panics on fields it does not know, so framing,
// matches, actions and everything received are read here.
package openflow
