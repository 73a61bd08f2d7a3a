// SPDX-License-Identifier: Apache-2.0

package pipeline

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/ovstest"
)

// The classes of testPolicy.
const (
	classPodA  = 0xa1
	classBlock = 0xb1
)

// testPolicy isolates Pod C (IPv4) and Pod D (IPv6) in both directions. Both
// accept TCP port 80 from Pod A, and connect to TCP port 443 of 203.0.113.0/24
// and 2001:db8::/64. Nobody judges Pods A and B.
func testPolicy() []flow.Flow {
	flows := []flow.Flow{
		PeerAddress(podA4, classPodA), PeerAddress(podA6, classPodA),
		PeerBlock(netip.MustParsePrefix("203.0.113.0/24"), classBlock), PeerBlock(netip.MustParsePrefix("2001:db8::/64"), classBlock),
		PeerBlock(netip.MustParsePrefix("203.0.113.128/25"), 0), PeerBlock(netip.MustParsePrefix("::/0"), 0),
	}
	rule := func(table uint8, peer flow.FieldMatch, port uint16, note flow.Action) {
		for _, judged := range []uint32{portC, portD} {
			for _, ethType := range ethTypes() {
				flows = append(flows, flow.Flow{Table: table, Priority: prioMain, Match: flow.Match{
					flow.EthType(ethType), flow.IPProto(flow.ProtoTCP), MatchJudged(judged), peer, MatchPolicyPort(port, 0xffff),
				}, Actions: []flow.Action{note}})
			}
		}
	}
	rule(TableIngressPolicy, MatchAddressClass(classPodA), 80, NotedIngress(7))
	rule(TableEgressPolicy, MatchBlockClass(classBlock), 443, NotedEgress(8))
	for _, port := range []uint32{portC, portD} {
		flows = append(flows, JudgeIngress(port)...)
		flows = append(flows, JudgeEgress(port)...)
		flows = append(flows, JudgeInvalid(port)...)
		flows = append(flows, Isolate(TableIngressIsolate, port), Isolate(TableEgressIsolate, port))
	}
	return flows
}

var ctState = regexp.MustCompile(`ct_state=([a-z|]+),`)

// state is the value of ct_state that the packet names.
func (c verdictCase) state() (string, bool) {
	m := ctState.FindStringSubmatch(c.packet)
	if m == nil {
		return "", false
	}
	return strings.ReplaceAll(m[1], "|", ","), true
}

const (
	denied  = "drop 44/0"
	answer  = "ct_state=trk|est|rpl,"
	later   = "ct_state=trk|est,"
	related = "ct_state=trk|rel,"
	invalid = "ct_state=trk|inv,"
	toC     = "dl_dst=0e:00:00:00:00:0c,"
)

// exemptCases: the node's own traffic, errors, and what is no connection.
func exemptCases() []verdictCase {
	const (
		node4 = fromGW + toC + "tcp,nw_ttl=64,nw_src=192.0.2.1,nw_dst=10.10.1.4,tcp_dst=9999"
		outC  = "output:13 dl_dst=0e:00:00:00:00:0c"
		c4    = "tcp,nw_ttl=64,nw_src=10.10.1.4,"
	)
	return []verdictCase{
		{"node to a Pod", node4, outC + " reg0=0x312"},
		{"node to a Pod, gateway's address", fromGW + toC + "tcp,nw_ttl=64,nw_src=10.10.1.1,nw_dst=10.10.1.4,tcp_dst=9999", outC},
		{"node to a Pod, IPv6", fromGW + "dl_dst=0e:00:00:00:00:0d,udp6,nw_ttl=64,ipv6_src=fd00::1,ipv6_dst=fd10:0:0:1::5,udp_dst=53", "output:14"},
		{"node to a Pod, later", later + "ct_mark=0x1," + node4, outC},
		{"node to a Pod, out of window", invalid + node4, outC},
		{"Pod answers its node", answer + "ct_mark=0x1,ct_nw_proto=6,ct_tp_dst=9999," + fromC + toGW + c4 + "nw_dst=192.0.2.1,tcp_src=9999", "output:1"},
		{"Pod to its node", fromC + toGW + c4 + "nw_dst=192.0.2.1,tcp_dst=443", denied},
		{"node answers a Pod whose egress is denied", answer + "ct_nw_proto=6,ct_tp_dst=443," + fromGW + toC + "tcp,nw_ttl=64,nw_src=192.0.2.1,nw_dst=10.10.1.4,tcp_src=443", denied},
		{"another Pod with the node's mark", later + fromA + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.4,tcp_dst=9999", denied},
		{"remote node to a Pod", fromGW + toC + "tcp,nw_ttl=64,nw_src=192.0.2.2,nw_dst=10.10.1.4,tcp_dst=9999", denied},
		{"related error to a Pod", related + fromGW + toC + "icmp,nw_ttl=64,nw_src=198.51.100.1,nw_dst=10.10.1.4,icmp_type=3,icmp_code=4", outC},
		{"related error to a Pod, IPv6", related + fromT + node3 + "icmp6,nw_ttl=64,ipv6_src=fd10:0:0:3::9,ipv6_dst=fd10:0:0:1::5,icmpv6_type=2,icmpv6_code=0", "output:14"},
		{"related error from a Pod", "ct_state=trk|rel|rpl," + fromC + toGW + "icmp,nw_ttl=64,nw_src=10.10.1.4,nw_dst=10.10.1.2,icmp_type=3,icmp_code=3", "output:11"},
		{"unrelated error to a judged Pod", invalid + fromGW + toC + "icmp,nw_ttl=64,nw_src=198.51.100.1,nw_dst=10.10.1.4,icmp_type=3,icmp_code=4", "drop 41/260"},
		{"out of window to a judged Pod", invalid + fromA + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.4,tcp_dst=80", "drop 41/260"},
		{"out of window from a judged Pod", invalid + fromC + toGW + c4 + "nw_dst=203.0.113.7,tcp_dst=443", "drop 28/300"},
		{"out of window between Pods that nobody judges", invalid + fromA + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.3,tcp_dst=80", "output:12"},
	}
}

// judgeCases: both ends, both directions, both families.
func judgeCases() []verdictCase {
	const (
		a4  = fromA + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.4,"
		c4  = fromC + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.4,"
		d6  = fromD + toGW + "tcp6,nw_ttl=64,ipv6_src=fd10:0:0:1::5,"
		a6  = fromA + toGW + "tcp6,nw_ttl=64,ipv6_src=fd10:0:0:1::2,ipv6_dst=fd10:0:0:1::5,"
		by  = "ct_nw_proto=6,ct_tp_dst="
		web = "output:1"
	)
	return []verdictCase{
		{"let in", a4 + "tcp_dst=80", "output:13 reg4=0x7"},
		{"let in, IPv6", a6 + "tcp_dst=80", "output:14 reg4=0x7"},
		{"let in, later", later + a4 + "tcp_dst=80", "output:13 reg4=0x7"},
		{"let in, its answer", answer + by + "80," + c4 + "nw_dst=10.10.1.2,tcp_src=80", "output:11 reg4=0x7"},
		{"let in, its answer, IPv6", answer + by + "80," + d6 + "ipv6_dst=fd10:0:0:1::2,tcp_src=80", "output:11 reg4=0x7"},
		{"another port", a4 + "tcp_dst=81", denied},
		{"another port, later", later + a4 + "tcp_dst=81", denied},
		{"another port, its answer", answer + by + "81," + c4 + "nw_dst=10.10.1.2,tcp_src=81", denied},
		{"another protocol", fromA + toGW + "udp,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.4,udp_dst=80", denied},
		{"no port", fromA + toGW + "icmp,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.4,icmp_type=8", denied},
		{"another Pod", "in_port=12,dl_src=0e:00:00:00:00:0b," + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.3,nw_dst=10.10.1.4,tcp_dst=80", denied},
		{"later fragment, judged by the first", "ct_state=trk|new," + fromA + toGW + "tcp,nw_frag=later,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.4", "output:13"},
		{"first fragment of what is not let in", fromA + toGW + "tcp,nw_frag=first,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.4,tcp_dst=81", denied},
		{"first fragment of what is let in", later + by + "80," + fromA + toGW + "tcp,nw_frag=first,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.4,tcp_dst=80", "output:13"},
		{"from outside", fromGW + toC + "tcp,nw_ttl=64,nw_src=203.0.113.7,nw_dst=10.10.1.4,tcp_dst=80", denied},
		{"let out", c4 + "nw_dst=203.0.113.7,tcp_dst=443", web + " reg5=0x8"},
		{"let out, IPv6", d6 + "ipv6_dst=2001:db8::7,tcp_dst=443", web + " reg5=0x8"},
		{"let out, its answer", answer + by + "443," + fromGW + toC + "tcp,nw_ttl=64,nw_src=203.0.113.7,nw_dst=10.10.1.4,tcp_src=443", "output:13 reg5=0x8"},
		{"answer of what is not let out", answer + by + "444," + fromGW + toC + "tcp,nw_ttl=64,nw_src=203.0.113.7,nw_dst=10.10.1.4,tcp_src=444", denied},
		{"not let out to another port", c4 + "nw_dst=203.0.113.7,tcp_dst=80", denied},
		{"not let out to an exception", c4 + "nw_dst=203.0.113.200,tcp_dst=443", denied},
		{"not let out to another Pod", c4 + "nw_dst=10.10.1.2,tcp_dst=443", denied},
		{"not let out to a remote Pod", d6 + "ipv6_dst=fd10:0:0:3::9,tcp_dst=443", denied},
		{"TTL 1 let out", fromC + toGW + "tcp,nw_ttl=1,nw_src=10.10.1.4,nw_dst=203.0.113.7,tcp_dst=443", web},
	}
}

// midStreamCases: the tracker has lost its table.
func midStreamCases() []verdictCase {
	const (
		c4   = fromC + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.4,"
		toC4 = fromGW + toC + "tcp,nw_ttl=64,nw_dst=10.10.1.4,"
		high = "tcp_src=80,tcp_dst=40000,"
	)
	return []verdictCase{
		{"answer of a server", c4 + "nw_dst=10.10.1.2," + high + "tcp_flags=ack", "output:11 reg0=0x411 reg4=0x7"},
		{"answer of a server, IPv6", fromD + toGW + "tcp6,nw_ttl=64,ipv6_src=fd10:0:0:1::5,ipv6_dst=fd10:0:0:1::2," + high + "tcp_flags=ack|psh", "output:11 reg4=0x7"},
		{"answer of a server from a port that is closed", c4 + "nw_dst=10.10.1.2,tcp_src=81,tcp_dst=40000,tcp_flags=ack", denied},
		{"answer of a server to a stranger", c4 + "nw_dst=10.10.1.3," + high + "tcp_flags=ack", denied},
		{"first segment that looks like it", c4 + "nw_dst=10.10.1.2," + high + "tcp_flags=syn", denied},
		{"answer to a client", toC4 + "nw_src=203.0.113.7,tcp_src=443,tcp_dst=40000,tcp_flags=ack", "output:13 reg5=0x8"},
		{"answer to a client who may not connect", toC4 + "nw_src=203.0.113.200,tcp_src=443,tcp_dst=40000,tcp_flags=ack", denied},
		{"segment of a client", fromA + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.2,nw_dst=10.10.1.4,tcp_src=40000,tcp_dst=80,tcp_flags=ack", "output:13 reg0=0x11 reg4=0x7"},
		{"answer to the node", c4 + "nw_dst=192.0.2.1,tcp_src=8443,tcp_dst=40000,tcp_flags=ack", "output:1 reg0=0x521"},
		{"answer of the node", toC4 + "nw_src=192.0.2.1,tcp_src=443,tcp_dst=40000,tcp_flags=ack", denied},
		{"request of the node", toC4 + "nw_src=192.0.2.1,tcp_src=40000,tcp_dst=8443,tcp_flags=ack", "output:13 reg0=0x312"},
	}
}

// loopCases: a Pod connects to a hostPort of its node that belongs to another
// Pod of it.
func loopCases() []verdictCase {
	return []verdictCase{
		{"Pod to a hostPort, first pass", fromA + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.2,nw_dst=192.0.2.1,tcp_dst=8080", "output:1 nw_ttl=64"},
		{"Pod to a hostPort, second pass", fromGW + toC + "tcp,nw_ttl=63,nw_src=10.10.1.2,nw_dst=10.10.1.4,tcp_dst=80", "output:13 reg0=0x212 reg4=0x7"},
		{"Pod of another node to a hostPort that is not let in", fromGW + toC + "tcp,nw_ttl=63,nw_src=10.10.9.9,nw_dst=10.10.1.4,tcp_dst=80", denied},
		{"Pod to a hostPort that is not let in", fromGW + toC + "tcp,nw_ttl=63,nw_src=10.10.1.3,nw_dst=10.10.1.4,tcp_dst=80", denied},
		{"answer goes by the kernel", answer + "ct_mark=0x2,ct_nw_proto=6,ct_tp_dst=80," + fromC + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.4,nw_dst=10.10.1.2,tcp_src=80", "output:1 dl_dst=0a:57:4d:00:00:01 nw_ttl=64"},
		{"answer comes from the kernel", answer + "ct_nw_proto=6,ct_tp_dst=8080," + fromGW + "dl_dst=0e:00:00:00:00:0a,tcp,nw_ttl=63,nw_src=192.0.2.1,nw_dst=10.10.1.2,tcp_src=8080", "output:11"},
		{"answer of a remote Pod goes by the kernel", answer + "ct_mark=0x2,ct_nw_proto=6,ct_tp_dst=80," + fromT + node2 + "tcp,nw_ttl=63,nw_src=10.10.2.9,nw_dst=10.10.1.2,tcp_src=80", "output:1"},
	}
}

// TestAnswersMustBelongToAConnection: without the flows of Resume a Pod that
// only seems to answer is judged as one that begins.
func TestAnswersMustBelongToAConnection(t *testing.T) {
	const c4 = fromC + toGW + "tcp,nw_ttl=64,nw_src=10.10.1.4,"
	flows := map[flow.Key]bool{}
	for _, f := range Resume(gateway(gw4, gw6)) {
		flows[f.Key()] = true
	}
	steady := slices.DeleteFunc(testFlows(), func(f flow.Flow) bool { return flows[f.Key()] })
	sw := ovstest.NewSwitch(ovstest.SwitchParams{Tables: tableIDs()})
	if err := sw.Update("all", steady, nil); err != nil {
		t.Fatal(err)
	}
	for _, destination := range []string{"10.10.1.2", "192.0.2.1"} {
		packet := c4 + "nw_dst=" + destination + ",tcp_src=80,tcp_dst=40000,tcp_flags=ack"
		checkVerdict(t, denied, sw.Trace(parsePacket(t, packet)))
	}
}
