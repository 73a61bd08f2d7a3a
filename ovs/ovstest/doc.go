// SPDX-License-Identifier: Apache-2.0

// Package ovstest is for tests of everything that makes flows.
//
// Switch is a stateful fake with the methods of openflow.Target. It refuses
// what a real switch would refuse, dumps sorted text and traces packets. OVS
// is a real Open vSwitch with daemons of its own, for integration tests; its
// Trace takes the same packets.
//
//	sw := ovstest.NewSwitch(ovstest.SwitchParams{Tables: tables})
//	if err := sw.Update("pod/a", flows, nil); err != nil { ... }
//	v := sw.Trace(ovstest.TCP(ovstest.Hop{InPort: 3, Src: podMAC, Dst: gwMAC}, src, dst, 40000, 80))
//	if v.String() != "output:2" { t.Errorf("packet goes to %v\n%s", v, v.Met()) }
//
// The fake knows conjunctive matches as Open vSwitch does, and has a connection
// table with its zones: a test traces the first packet of a connection, then
// Answer of it, then the next. Of address translation it knows what Services
// need; a verdict on other is an error. What packets teach it is in tables of its
// own, where no time passes: a test says when it expires. A test may choose the
// buckets of groups (Choose).
//
// ofproto/trace ends at a "select" group, unless it is given the hash that the
// datapath would take: HashTracer does that, and says how the packet leaves.
//
// A packet is a flow.Match that gives every field it has an exact value, so it
// prints as the text that ovs-appctl ofproto/trace reads.
package ovstest
