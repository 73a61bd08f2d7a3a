// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"slices"

	"github.com/waymark-net/waymark/ovs/flow"
)

// The tables in the order in which packets pass them; the subroutines come
// last. The numbers leave room for later tables and are no contract; the names
// are.
const (
	TableClassify       uint8 = 0
	TableSpoofGuard     uint8 = 10
	TableNeighbour      uint8 = 20
	TableServiceReturn  uint8 = 21
	TableConntrack      uint8 = 22
	TableConntrackNAT   uint8 = 23
	TableConntrackState uint8 = 24
	TableServiceFront   uint8 = 25
	TableServiceLB      uint8 = 26
	TableServiceStick   uint8 = 27
	TableJudgeSource    uint8 = 28
	TableVerdictSource  uint8 = 29
	TableL3Forward      uint8 = 35
	TableTTL            uint8 = 40
	TableJudgeDest      uint8 = 41
	TableVerdictDest    uint8 = 42
	TableDenied         uint8 = 44
	TableRefuse         uint8 = 46
	TableCommit         uint8 = 48
	TableServiceSource  uint8 = 49
	TableOutput         uint8 = 50

	TablePeerDest        uint8 = 55
	TablePeerSource      uint8 = 56
	TablePeerAddress     uint8 = 60
	TablePeerBlock       uint8 = 61
	TablePolicyPort      uint8 = 62
	TableServiceAffinity uint8 = 63
	TableEgressAdmin     uint8 = 70
	TableEgressPolicy    uint8 = 71
	TableEgressIsolate   uint8 = 72
	TableEgressBaseline  uint8 = 73
	TableIngressAdmin    uint8 = 80
	TableIngressPolicy   uint8 = 81
	TableIngressIsolate  uint8 = 82
	TableIngressBaseline uint8 = 83
)

// Table describes a table of the pipeline.
type Table struct {
	ID      uint8
	Name    string
	Purpose string
	// Subroutine says that the table is looked up by others, which go on when
	// it is done.
	Subroutine bool
	// Miss is what happens to a packet that no flow matches; empty drops it,
	// and ends a subroutine.
	Miss []flow.Action
}

// Tables returns the pipeline.
func Tables() []Table {
	return slices.Concat(entryTables(), conntrackTables(), judgeTables(), forwardTables(), peerTables(),
		ruleTables("Egress", TableEgressAdmin), ruleTables("Ingress", TableIngressAdmin))
}

// next is the miss of a table that leads on.
func next(table uint8) []flow.Action { return []flow.Action{flow.GotoTable{Table: table}} }

func entryTables() []Table {
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
			Miss:    next(TableServiceReturn),
		},
		{
			ID: TableServiceReturn, Name: "ServiceReturn",
			Purpose: "Gives answers to the node's Service address the address of the client back.",
			Miss:    next(TableConntrack),
		},
	}
}

func conntrackTables() []Table {
	return []Table{
		{
			ID: TableConntrack, Name: "Conntrack",
			Purpose: "Looks up the connection of every IP packet, in one zone a family. Marks what comes from the kernel. " +
				"For Pods it does at once what ConntrackNAT does for others.",
			Miss: next(TableL3Forward),
		},
		{
			ID: TableConntrackNAT, Name: "ConntrackNAT",
			Purpose: "Gives packets of connections to Services the endpoint's address, and answers that of the Service.",
			Miss:    next(TableConntrackState),
		},
		{
			ID: TableConntrackState, Name: "ConntrackState",
			Purpose: "Tells answers from first packets. The node's own traffic to its Pods, its answers, and ICMP errors " +
				"about known connections are not judged.",
			Miss: next(TableJudgeSource),
		},
		{
			ID: TableServiceFront, Name: "ServiceFront",
			Purpose: "Finds the set of endpoints for a new connection to a Service. What goes to a Service without " +
				"endpoints, or to another port of a ClusterIP, is refused.",
			Miss: next(TableJudgeSource),
		},
		{
			ID: TableServiceLB, Name: "ServiceLB",
			Purpose: "Gives the connection an endpoint of the set: the one that the client had before where the Service " +
				"asks for it, else any.",
		},
		{
			ID: TableServiceStick, Name: "ServiceStick",
			Purpose: "Has the switch learn which endpoint a client was given, where the Service asks for it.",
		},
	}
}

func judgeTables() []Table {
	return []Table{
		{
			ID: TableJudgeSource, Name: "JudgeSource",
			Purpose: "Judges what a local Pod sends that policies speak of: its egress, or its ingress for an answer. " +
				"The first fragment is judged for all. Packets that belong to no connection and cannot begin one are dropped for such Pods.",
			Miss: next(TableL3Forward),
		},
		{
			ID: TableVerdictSource, Name: "VerdictSource",
			Purpose: "Parts what was denied from the rest.",
			Miss:    next(TableL3Forward),
		},
	}
}

func forwardTables() []Table {
	return []Table{
		{
			ID: TableL3Forward, Name: "L3Forward",
			Purpose: "Routes by destination: to a local Pod, to the gateway, into a tunnel; everything else from a Pod " +
				"to the gateway, where the kernel routes. What came out of a tunnel never goes into one. Answers of " +
				"connections that came from the kernel go to the kernel.",
		},
		{
			ID: TableTTL, Name: "TTL",
			Purpose: "Decrements the TTL or hop limit of packets from Pods that the switch itself routes. " +
				"Packets whose time is up go to the kernel, which answers them.",
			Miss: next(TableJudgeDest),
		},
		{
			ID: TableJudgeDest, Name: "JudgeDest",
			Purpose: "Judges what goes to a local Pod that policies speak of: its ingress, or its egress for an answer.",
			Miss:    next(TableCommit),
		},
		{
			ID: TableVerdictDest, Name: "VerdictDest",
			Purpose: "Parts what was denied from the rest.",
			Miss:    next(TableCommit),
		},
		{
			ID: TableDenied, Name: "Denied",
			Purpose: "The end of what policies deny. The flow of the rule or of the isolated Pod counted it.",
		},
		{
			ID: TableRefuse, Name: "Refuse",
			Purpose: "Reports to the agent what nobody serves, at a limited rate. It tells the sender.",
			Miss:    []flow.Action{flow.Controller{MaxLen: 0xffff, Userdata: []byte{TableRefuse}, Meter: RefuseMeter}},
		},
		{
			ID: TableCommit, Name: "Commit",
			Purpose: "Records a new connection with the rules that allowed it.",
			Miss:    next(TableOutput),
		},
		{
			ID: TableServiceSource, Name: "ServiceSource",
			Purpose: "Gives what the kernel sent to a Service, and what leaves for an endpoint elsewhere, the node's Service " +
				"address as its source, so that the answers come back here. The kernel does that for what the node sends to NodePorts.",
			Miss: next(TableOutput),
		},
		{
			ID: TableOutput, Name: "Output",
			Purpose: "Sends the packet to the port that was chosen.",
		},
	}
}

func peerTables() []Table {
	return []Table{
		{
			ID: TablePeerDest, Name: "PeerDest", Subroutine: true,
			Purpose: "Classifies the destination as the other end of the connection.",
		},
		{
			ID: TablePeerSource, Name: "PeerSource", Subroutine: true,
			Purpose: "Classifies the source as the other end of the connection.",
		},
		{
			ID: TablePeerAddress, Name: "PeerAddress", Subroutine: true,
			Purpose: "Gives the set of groups of Pods and nodes that the other end is in a number.",
		},
		{
			ID: TablePeerBlock, Name: "PeerBlock", Subroutine: true,
			Purpose: "Gives the set of address blocks that the other end is in a number, by the longest prefix.",
		},
		{
			ID: TablePolicyPort, Name: "PolicyPort", Subroutine: true,
			Purpose: "Finds the destination port of the connection's first packet.",
		},
		{
			ID: TableServiceAffinity, Name: "ServiceAffinity", Subroutine: true,
			Purpose: "Finds the endpoint that a client of a Service had before. The switch itself makes these flows, by what " +
				"ServiceStick has it learn.",
		},
	}
}

// ruleTables are the four tables of a direction, from first on.
func ruleTables(direction string, first uint8) []Table {
	return []Table{
		{
			ID: first, Name: direction + "Admin", Subroutine: true,
			Purpose: "Rules of the admin tier, by priority. Accept and deny end the judgement. Denies everything for Pods " +
				"that wait for their policies.",
			Miss: next(first + 1),
		},
		{
			ID: first + 1, Name: direction + "Policy", Subroutine: true,
			Purpose: "Rules of NetworkPolicies. A match ends the judgement: accepted.",
			Miss:    next(first + 2),
		},
		{
			ID: first + 2, Name: direction + "Isolate", Subroutine: true,
			Purpose: "Denies everything else for Pods that a NetworkPolicy isolates.",
			Miss:    next(first + 3),
		},
		{
			ID: first + 3, Name: direction + "Baseline", Subroutine: true,
			Purpose: "Rules of the baseline tier, by priority. What none of them denies is allowed.",
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
	metaRegister         = 0
	portRegister         = 1
	addressClassRegister = 2
	blockClassRegister   = 3
	ingressRuleRegister  = 4
	egressRuleRegister   = 5
	judgedRegister       = 6
	policyPortRegister   = 7
	endpointRegister     = 8  // and those up to 11, for IPv6
	peerRegister         = 12 // and those up to 15, for IPv6

	// Before a packet is judged, what is found out about its Service.
	endpointsRegister = 12
	stickyRegister    = 13

	sourceMask  uint32 = 0x7
	fromPod     uint32 = 0x1
	fromGateway uint32 = 0x2
	fromTunnel  uint32 = 0x4

	destMask  uint32 = 0x30
	toPod     uint32 = 0x10
	toGateway uint32 = 0x20
	toTunnel  uint32 = 0x30

	// The two bits that Commit copies to the connection's mark stand together.
	exemptBit  uint32 = 0x100
	kernelBit  uint32 = 0x200
	markOffset        = 8
	replyBit   uint32 = 0x400
	hairpinBit uint32 = 0x800
	deniedBit  uint32 = 0x1000

	wholeRegister  uint32 = 0xffffffff
	policyPortMask uint32 = 0xffff
)

// Registers returns the registers in use.
func Registers() []Register {
	return []Register{
		{
			N: metaRegister, Mask: sourceMask, Name: "Source", Purpose: "where the packet came from",
			Values: []RegisterValue{{fromPod, "a Pod"}, {fromGateway, "the gateway port"}, {fromTunnel, "a tunnel"}},
		},
		{
			N: metaRegister, Mask: destMask, Name: "Destination", Purpose: "where the packet goes",
			Values: []RegisterValue{{toPod, "a local Pod"}, {toGateway, "the gateway port"}, {toTunnel, "a tunnel"}},
		},
		{
			N: metaRegister, Mask: exemptBit, Name: "Exempt", Purpose: "policies are not asked",
			Values: []RegisterValue{{exemptBit, "the node's own traffic or an ICMP error"}},
		},
		{
			N: metaRegister, Mask: kernelBit, Name: "Kernel", Purpose: "the packet passed the kernel",
			Values: []RegisterValue{{kernelBit, "which may have given it another destination"}},
		},
		{
			N: metaRegister, Mask: replyBit, Name: "Reply", Purpose: "which way the connection is judged",
			Values: []RegisterValue{{replyBit, "the packet is an answer"}},
		},
		{
			N: metaRegister, Mask: hairpinBit, Name: "Hairpin", Purpose: "the Pod answers the address that stands for itself",
			Values: []RegisterValue{{hairpinBit, "the packet goes back to the Pod"}},
		},
		{
			N: metaRegister, Mask: deniedBit, Name: "Verdict", Purpose: "what the rules said",
			Values: []RegisterValue{{deniedBit, "denied"}},
		},
		{N: portRegister, Mask: wholeRegister, Name: "Port", Purpose: "the OpenFlow port of the Pod or the tunnel that the packet goes to"},
		{N: addressClassRegister, Mask: wholeRegister, Name: "AddressClass", Purpose: "the set of groups that the other end is in, 0 for none"},
		{N: blockClassRegister, Mask: wholeRegister, Name: "BlockClass", Purpose: "the set of address blocks that the other end is in, 0 for none"},
		{N: ingressRuleRegister, Mask: wholeRegister, Name: "IngressRule", Purpose: "the rule that decided at the Pod that is connected to"},
		{N: egressRuleRegister, Mask: wholeRegister, Name: "EgressRule", Purpose: "the rule that decided at the Pod that connects"},
		{N: judgedRegister, Mask: wholeRegister, Name: "Judged", Purpose: "the OpenFlow port of the Pod whose rules are asked"},
		{N: policyPortRegister, Mask: policyPortMask, Name: "PolicyPort", Purpose: "the destination port of the connection's first packet"},
		{N: endpointRegister, Mask: wholeRegister, Name: "Endpoint", Purpose: "the address of a Service's endpoint that answers, IPv4"},
		{N: endpointRegister + 1, Mask: wholeRegister, Name: "Endpoint", Purpose: "IPv6 addresses go on here"},
		{N: endpointRegister + 2, Mask: wholeRegister, Name: "Endpoint", Purpose: "and here"},
		{N: endpointRegister + 3, Mask: wholeRegister, Name: "Endpoint", Purpose: "and here"},
		{N: peerRegister, Mask: wholeRegister, Name: "Peer", Purpose: "before that, the set of endpoints of the Service; the address of the other end, IPv4"},
		{N: peerRegister + 1, Mask: wholeRegister, Name: "Peer", Purpose: "before that, the endpoint that the client had; IPv6 addresses go on here"},
		{N: peerRegister + 2, Mask: wholeRegister, Name: "Peer", Purpose: "and here"},
		{N: peerRegister + 3, Mask: wholeRegister, Name: "Peer", Purpose: "and here"},
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

// has and hasNot match packets by a bit of the first register.
func has(bit uint32) flow.FieldMatch    { return flow.Reg(metaRegister, bit, bit) }
func hasNot(bit uint32) flow.FieldMatch { return flow.Reg(metaRegister, 0, bit) }
func setBit(bit uint32) flow.Action     { return flow.SetReg(metaRegister, bit, bit) }

// toPort sends the packet to a Pod's port once it reaches the Output table.
func toPort(port uint32) []flow.Action {
	return []flow.Action{setPort(port), setDest(toPod)}
}

// setPort chooses the port of what goes to a Pod or into a tunnel.
func setPort(port uint32) flow.Action { return flow.SetReg(portRegister, port, wholeRegister) }
