// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"regexp"
	"strings"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Trace runs ofproto/trace on a packet. The verdict is in the words of
// Verdict.String: a packet that goes to the controller because its time to live
// ran out, or that a tunnel has no route for, is dropped. trace is all that
// ofproto/trace prints, with the flows that the packet met.
func (o *OVS) Trace(bridge string, p Packet) (verdict, trace string) {
	o.t.Helper()
	trace = o.Appctl("ofproto/trace", bridge, traceText(p))
	_, actions, ok := strings.Cut(trace, "Datapath actions: ")
	if !ok {
		o.t.Fatalf("ofproto/trace prints no actions:\n%s", trace)
	}
	ports := o.datapathPorts()
	var out []string
	for _, a := range topLevel(strings.TrimSpace(actions)) {
		number := a
		if m := tunnelPush.FindStringSubmatch(a); m != nil {
			number = m[1]
		}
		if port, ok := ports[number]; ok {
			out = append(out, "output:"+port)
		}
	}
	if len(out) == 0 {
		return "drop", trace
	}
	return strings.Join(out, ","), trace
}

// tunnelPush is how the userspace datapath sends through a tunnel.
var tunnelPush = regexp.MustCompile(`^tnl_push\(tnl_port\((\d+)\)`)

// datapathPort is a port in dpif/show: NAME OPENFLOW/DATAPATH: (TYPE).
var datapathPort = regexp.MustCompile(`(?m)^\s+\S+ (\d+)/(\d+):`)

// datapathPorts maps the numbers of the datapath to those of OpenFlow.
func (o *OVS) datapathPorts() map[string]string {
	o.t.Helper()
	ports := map[string]string{}
	for _, m := range datapathPort.FindAllStringSubmatch(o.Appctl("dpif/show"), -1) {
		ports[m[2]] = m[1]
	}
	return ports
}

// topLevel splits at commas outside parentheses.
func topLevel(s string) []string {
	var out []string
	depth, start := 0, 0
	for i, c := range s {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				out = append(out, s[start:i])
				start = i + 1
			}
		}
	}
	return append(out, s[start:])
}

// traceText is the packet as ofproto/trace reads it, which unlike a flow may
// not name fields by the protocol they belong to.
func traceText(p Packet) string {
	p = p.Canonical()
	var words []string
	for _, early := range []bool{true, false} {
		for _, fm := range p {
			if early == (fm.Field == flow.FieldEthType) {
				words = append(words, fm.String())
			}
		}
	}
	return strings.Join(words, ",")
}
