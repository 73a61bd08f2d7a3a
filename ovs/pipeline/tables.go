// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"github.com/waymark-net/waymark/ovs/flow"
)

// The tables in the order in which packets pass them. The numbers leave room
// for later tables and are no contract; the names are.
const (
	TableClassify   uint8 = 0
	TableSpoofGuard uint8 = 10
	TableNeighbour  uint8 = 20
	TableL3Forward  uint8 = 30
	TableTTL        uint8 = 40
	TableOutput     uint8 = 50
)

// Table describes a table of the pipeline.
type Table struct {
	ID      uint8
	Name    string
	Purpose string
	// Miss is what happens to a packet that no flow matches; empty drops it.
	Miss []flow.Action
}

// Tables returns the pipeline.
func Tables() []Table {
	return []Table{
		{
			ID: TableClassify, Name: "Classify",
			Purpose: "Records where the packet came from, by its port. VLAN tags and unknown ports go no further.",
		},
		{
			ID: TableSpoofGuard, Name: "SpoofGuard",
			Purpose: "Lets through from a Pod only what carries its own MAC and IP addresses in every header, " +
				"neighbour discovery included, and neither router advertisements, redirects nor DHCP answers; " +
				"from the tunnel only what comes from a node of the cluster.",
		},
		{
			ID: TableNeighbour, Name: "Neighbour",
			Purpose: "Carries ARP and neighbour discovery between Pods and the gateway. Pods never see each other's.",
			Miss:    []flow.Action{flow.GotoTable{Table: TableL3Forward}},
		},
		{
			ID: TableL3Forward, Name: "L3Forward",
			Purpose: "Routes by destination: to a local Pod, to the gateway, into a tunnel; everything else from a Pod " +
				"to the gateway, where the kernel routes. What came out of a tunnel never goes into one.",
		},
		{
			ID: TableTTL, Name: "TTL",
			Purpose: "Decrements the TTL or hop limit of packets from Pods that the switch itself routes. " +
				"Packets whose time is up go to the kernel, which answers them.",
			Miss: []flow.Action{flow.GotoTable{Table: TableOutput}},
		},
		{
			ID: TableOutput, Name: "Output",
			Purpose: "Sends the packet to the port that was chosen.",
		},
	}
}

// Register describes a run of bits of a register.
type Register struct {
	// N is the number of the register.
	N int
	// Mask are its bits.
	Mask    uint32
	Name    string
	Purpose string
	Values  []RegisterValue
}

// RegisterValue is a value that the bits of a Register take.
type RegisterValue struct {
	Value uint32
	Name  string
}

// Registers and values. Sources are single bits, so that one match can name
// all sources but one.
const (
	metaRegister = 0
	portRegister = 1

	sourceMask  uint32 = 0x7
	fromPod     uint32 = 0x1
	fromGateway uint32 = 0x2
	fromTunnel  uint32 = 0x4

	destMask  uint32 = 0x30
	toPod     uint32 = 0x10
	toGateway uint32 = 0x20
	toTunnel  uint32 = 0x30

	wholeRegister uint32 = 0xffffffff
)

// Registers returns the registers in use.
func Registers() []Register {
	return []Register{
		{
			N: metaRegister, Mask: sourceMask, Name: "Source", Purpose: "where the packet came from",
			Values: []RegisterValue{{fromPod, "a Pod"}, {fromGateway, "the gateway port"}, {fromTunnel, "the tunnel port"}},
		},
		{
			N: metaRegister, Mask: destMask, Name: "Destination", Purpose: "where the packet goes",
			Values: []RegisterValue{{toPod, "a local Pod"}, {toGateway, "the gateway port"}, {toTunnel, "the tunnel port"}},
		},
		{
			N: portRegister, Mask: wholeRegister, Name: "Port", Purpose: "the OpenFlow port of the Pod that the packet goes to",
		},
	}
}

// Priorities. Every table uses these names from the highest down; what they
// stand for in a table is said where they are used.
const (
	prioForbid  uint16 = 300 // never allowed, whoever sends it
	prioExact   uint16 = 260 // stricter than the checks that follow
	prioQuiet   uint16 = 240 // noise that is expected, with a counter of its own
	prioMain    uint16 = 200 // what the table is for
	prioRoute   uint16 = 180 // destinations that are not local
	prioDefault uint16 = 100
	prioRest    uint16 = 50 // counted, then dropped
	prioMiss    uint16 = 0
)

// source matches packets from one source.
func source(s uint32) flow.FieldMatch { return flow.Reg(metaRegister, s, sourceMask) }

// notFrom matches packets from any source but one.
func notFrom(s uint32) flow.FieldMatch { return flow.Reg(metaRegister, 0, s) }

func setSource(s uint32) flow.Action { return flow.SetReg(metaRegister, s, sourceMask) }

func setDest(d uint32) flow.Action { return flow.SetReg(metaRegister, d, destMask) }

func dest(d uint32) flow.FieldMatch { return flow.Reg(metaRegister, d, destMask) }

// toPort sends the packet to a Pod's port once it reaches the Output table.
func toPort(port uint32) []flow.Action {
	return []flow.Action{flow.SetReg(portRegister, port, wholeRegister), setDest(toPod)}
}
