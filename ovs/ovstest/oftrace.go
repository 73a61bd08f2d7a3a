// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"regexp"
	"strings"

	"github.com/waymark-net/waymark/ovs/flow"
)

// Trace runs ofproto/trace on a packet. The verdict is in the words of
// Verdict.String: a packet that goes to the controller, that the time to live
// ran out for, or that a tunnel has no route for, is dropped. ctNext are the bits
// of ct_state with which ct sends the packet on, one for each time; after them
// ofproto/trace takes every packet for the first of its connection. It teaches the
// switch nothing, and ends at a "select" group, where the
// datapath would take a hash: such a packet is dropped here. trace is all that
// ofproto/trace prints, with the flows that the packet met.
func (o *OVS) Trace(bridge string, p Packet, ctNext ...uint32) (verdict, trace string) {
	o.t.Helper()
	args := []string{"ofproto/trace", bridge, traceText(p)}
	for _, v := range ctNext {
		args = append(args, "--ct-next", stateWords(v|flow.CTTracked))
	}
	trace = o.Appctl(args...)
	ports := o.datapathPorts()
	var out []string
	found := false
	for line := range strings.Lines(trace) {
		actions, ok := strings.CutPrefix(line, "Datapath actions: ")
		if !ok {
			continue
		}
		found = true
		for _, a := range topLevel(strings.TrimSpace(actions)) {
			number := a
			if m := tunnelPush.FindStringSubmatch(a); m != nil {
				number = m[1]
			}
			if port, ok := ports[number]; ok {
				out = append(out, "output:"+port)
			}
		}
	}
	if !found {
		o.t.Fatalf("ofproto/trace prints no actions:\n%s", trace)
	}
	if len(out) == 0 {
		return "drop", trace
	}
	return strings.Join(out, ","), trace
}

// stateWords is ct_state as --ct-next reads it: new,trk.
func stateWords(v uint32) string {
	text := flow.Match{flow.CTState(v, 0)}.String()
	return strings.ReplaceAll(strings.TrimPrefix(text, "ct_state=+"), "+", ",")
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
