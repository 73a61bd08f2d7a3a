// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// The chains of Services, in the table nat but for chainSvcForged, which is in raw.
const (
	chainSvc           = "WAYMARK-SERVICES"
	chainSvcOutput     = "WAYMARK-SERVICES-OUT"
	chainNodePorts     = "WAYMARK-NODE-PORTS"
	chainNodePortsDNAT = "WAYMARK-NODE-PORTS-DNAT"
	chainSvcSources    = "WAYMARK-SERVICES-POST"
	chainSvcForged     = "WAYMARK-SERVICES-RAW"
)

// portsPerRule is how many ports the match multiport takes.
const portsPerRule = 15

func (r serviceRules) ipt(i ipt) []iptTable { return renderServicesIPT(r, i.is4) }

// beside wants none of the chains, and so nothing once they are gone.
func (r serviceRules) beside(i ipt, tidy bool) ([]iptTable, error) {
	if !tidy {
		return nil, nil
	}
	return renderServicesIPT(serviceRules{}, i.is4), nil
}

// renderServicesIPT says what rules make of the tables of a family. Chains
// without rules are not to exist; the order has nothing refer to a chain that
// does not exist yet, or does no more.
func renderServicesIPT(r serviceRules, is4 bool) []iptTable {
	f, not := r.family(is4), []string{"::1/128", "fe80::/10"}
	if is4 {
		not = []string{"127.0.0.0/8"}
	}
	var all, nodePorts, dnat, output []string
	for _, a := range f.aliases {
		p := protocolName(a.Protocol)
		all = append(all, fmt.Sprintf("-d %v -p %s -m %s --dport %d -j DNAT --to-destination %v",
			single(a.Addr.Addr()), p, p, a.Addr.Port(), a.To))
	}
	if f.to.IsValid() {
		all = append(all, "-m addrtype --dst-type LOCAL -j "+chainNodePorts)
		for _, p := range not {
			nodePorts = append(nodePorts, "-d "+p+" -j RETURN")
		}
		for _, p := range f.within {
			nodePorts = append(nodePorts, fmt.Sprintf("-d %v -j %s", p, chainNodePortsDNAT))
		}
		if len(f.within) == 0 {
			nodePorts = append(nodePorts, "-j "+chainNodePortsDNAT)
		}
		dnat = portRules(r.ports, f.to)
	}
	if len(all) > 0 {
		output = []string{"-j " + chainSvc}
	}
	pre := iptTable{table: "nat", builtin: "PREROUTING", chains: []iptChain{
		{chainSvc, all}, {chainNodePorts, nodePorts}, {chainNodePortsDNAT, dnat},
	}}
	out := iptTable{table: "nat", builtin: "OUTPUT", chains: []iptChain{{chainSvcOutput, output}}}
	forged, sources := clientRules(f.client, f.to, r.gateway)
	raw := iptTable{table: "raw", builtin: "PREROUTING", chains: []iptChain{{chainSvcForged, forged}}}
	post := iptTable{table: "nat", builtin: "POSTROUTING", chains: []iptChain{{chainSvcSources, sources}}}
	if len(all) == 0 {
		return []iptTable{out, pre, post, raw}
	}
	return []iptTable{raw, pre, out, post}
}

// clientRules are for what the node itself sends to NodePorts, and for what others
// forge of that.
func clientRules(c NodeClient, to netip.Addr, gateway string) (forged, sources []string) {
	if !c.As.IsValid() {
		return nil, nil
	}
	forged = []string{fmt.Sprintf("! -i %s -s %v -j DROP", gateway, single(c.As))}
	return forged, []string{
		fmt.Sprintf("-d %v -m addrtype --src-type LOCAL -j SNAT --to-source %v", single(to), c.As),
		fmt.Sprintf("-s %v -j SNAT --to-source %v", single(c.As), c.Node),
	}
}

// portRules translates packets to any of the ports, which are sorted.
func portRules(ports []ServicePort, to netip.Addr) []string {
	var out []string
	for len(ports) > 0 {
		protocol := ports[0].Protocol
		var list []string
		for len(ports) > 0 && len(list) < portsPerRule && ports[0].Protocol == protocol {
			list, ports = append(list, decimal(ports[0].Port)), ports[1:]
		}
		out = append(out, fmt.Sprintf("-p %s -m multiport --dports %s -j DNAT --to-destination %v",
			protocolName(protocol), strings.Join(list, ","), to))
	}
	return out
}

// protocolName is what iptables call one of the protocols of Services.
func protocolName(protocol uint8) string {
	switch protocol {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	default:
		return "sctp"
	}
}
