// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/waymark-net/waymark/ovs/unixctl"
)

// Traced is what becomes of the first packet of a connection, as ofproto/trace
// says.
type Traced struct {
	// Ports are those that the packet leaves by; Controller says that it goes to
	// the controller.
	Ports      []uint32
	Controller bool
	// Src and Dst are its addresses and ports as it leaves.
	Src, Dst netip.AddrPort
	// Text is all that ofproto/trace prints.
	Text string
}

// HashTracer runs ofproto/trace on packets to which the datapath has given a hash.
type HashTracer struct {
	ovs    *OVS
	bridge string
	// ports are those of OpenFlow, by their numbers in the datapath.
	ports map[string]string
}

// HashTracer returns one for a bridge, whose ports must not change afterwards.
func (o *OVS) HashTracer(bridge string) *HashTracer {
	o.t.Helper()
	return &HashTracer{ovs: o, bridge: bridge, ports: o.datapathPorts()}
}

// Trace traces the first packet of a connection. By the hash "select" groups
// choose a bucket, one after the other of their places as it grows; 0 is none. Of
// address translation ofproto/trace does what begins a connection. The packet must
// be TCP, UDP or SCTP, and leave no more than once.
func (h *HashTracer) Trace(p Packet, hash uint32) (Traced, error) {
	said, err := unixctl.Call(context.Background(), h.ovs.path("vswitchd.ctl"), "ofproto/trace", h.bridge, fmt.Sprintf("%s,dp_hash=%d", traceText(p), hash))
	if err != nil {
		return Traced{}, err
	}
	out := Traced{Text: said}
	actions := ""
	for line := range strings.Lines(out.Text) {
		switch head, rest, _ := strings.Cut(strings.TrimSpace(line), ": "); head {
		case "Flow", "Final flow":
			// "unchanged" has no addresses.
			out.Src = traced(rest, out.Src, tracedSrc, tracedSrcPort)
			out.Dst = traced(rest, out.Dst, tracedDst, tracedDstPort)
		case "Datapath actions":
			actions += rest + ","
		}
	}
	if actions == "" {
		return out, fmt.Errorf("ofproto/trace prints no actions:\n%s", out.Text)
	}
	for _, a := range topLevel(actions) {
		if number, err := strconv.ParseUint(h.ports[a], 10, 32); err == nil {
			out.Ports = append(out.Ports, uint32(number))
		}
		// It may be inside of a meter.
		out.Controller = out.Controller || strings.Contains(a, "controller(")
	}
	return out, nil
}

var (
	tracedSrc     = regexp.MustCompile(`,(?:nw|ipv6)_src=([^,]+)`)
	tracedDst     = regexp.MustCompile(`,(?:nw|ipv6)_dst=([^,]+)`)
	tracedSrcPort = regexp.MustCompile(`,tp_src=(\d+)`)
	tracedDstPort = regexp.MustCompile(`,tp_dst=(\d+)`)
)

// traced reads an address and port of a flow, or returns what was before.
func traced(text string, before netip.AddrPort, addr, port *regexp.Regexp) netip.AddrPort {
	a, p := addr.FindStringSubmatch(text), port.FindStringSubmatch(text)
	if a == nil || p == nil {
		return before
	}
	ip, err := netip.ParseAddr(a[1])
	if err != nil {
		return before
	}
	n, err := strconv.ParseUint(p[1], 10, 16)
	if err != nil {
		return before
	}
	return netip.AddrPortFrom(ip, uint16(n))
}
