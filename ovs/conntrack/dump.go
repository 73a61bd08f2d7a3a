// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/unixctl"
)

// The datapaths as the commands of ovs-vswitchd name them.
const (
	DatapathNetdev = "netdev@ovs-netdev"
	DatapathSystem = "ovs-system"
)

// Entry is a tracked connection. Ports are 0 for protocols without them, also
// for SCTP in the userspace datapath, which tracks it by its addresses.
type Entry struct {
	flow.Connection
	Mark uint32
}

// Params say what to read.
type Params struct {
	// Socket is that of ovs-vswitchd for commands (ovs-vswitchd.ctl).
	Socket string
	// Datapath is DatapathNetdev or DatapathSystem.
	Datapath string
	Zone     uint16
}

// Dump calls each with every connection of a zone, in no order, until that
// returns an error, which is returned. A connection may begin or end meanwhile. A
// datapath that is not there is unixctl.ErrRefused. A hundred thousand
// connections are 15 MB of text.
func Dump(ctx context.Context, p Params, each func(Entry) error) error {
	text, err := unixctl.Call(ctx, p.Socket, "dpctl/dump-conntrack", p.Datapath, "zone="+strconv.Itoa(int(p.Zone)))
	if err != nil {
		return err
	}
	return Parse(strings.NewReader(text), each)
}

// maxLine is far above what an entry takes.
const maxLine = 1 << 16

// Parse reads what dpctl/dump-conntrack prints, with whatever options, and calls
// each with every connection until that returns an error, which is returned.
func Parse(r io.Reader, each func(Entry) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		e, err := parseEntry(line)
		if err != nil {
			return fmt.Errorf("tracked connection %q: %w", line, err)
		}
		if err := each(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("tracked connections: %w", err)
	}
	return nil
}

// protocols are the names that Open vSwitch prints; other protocols have numbers.
var protocols = map[string]uint8{
	"icmp": flow.ProtoICMP, "igmp": 2, "tcp": flow.ProtoTCP, "udp": flow.ProtoUDP, "dccp": 33,
	"icmpv6": flow.ProtoICMPv6, "sctp": flow.ProtoSCTP, "udplite": 136,
}

// parseEntry reads PROTOCOL,orig=(...),reply=(...) and further words, of which
// zone and mark count.
func parseEntry(line string) (e Entry, err error) {
	word, rest := cutWord(line)
	protocol, known := protocols[word]
	if !known {
		n, err := strconv.ParseUint(word, 10, 8)
		if err != nil {
			return Entry{}, fmt.Errorf("protocol %q", word)
		}
		protocol = uint8(n)
	}
	e.Protocol = protocol
	for rest != "" {
		word, rest = cutWord(rest)
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "orig":
			e.Original, err = parseTuple(value)
		case "reply":
			e.Reply, err = parseTuple(value)
		case "zone":
			var n uint64
			n, err = strconv.ParseUint(value, 0, 16)
			e.Zone = uint16(n)
		case "mark":
			var n uint64
			n, err = strconv.ParseUint(value, 0, 32)
			e.Mark = uint32(n)
		}
		if err != nil {
			return Entry{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	if !e.Original.Src.IsValid() || !e.Reply.Src.IsValid() {
		return Entry{}, errors.New("a direction is missing")
	}
	return e, nil
}

// cutWord cuts at the first comma outside parentheses.
func cutWord(s string) (word, rest string) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				return s[:i], s[i+1:]
			}
		}
	}
	return s, ""
}

// parseTuple reads (src=ADDR,dst=ADDR,sport=PORT,dport=PORT); ICMP has other
// words in the place of ports.
func parseTuple(s string) (flow.Tuple, error) {
	inner, open := strings.CutPrefix(s, "(")
	inner, closed := strings.CutSuffix(inner, ")")
	if !open || !closed {
		return flow.Tuple{}, fmt.Errorf("%q is not in parentheses", s)
	}
	var src, dst netip.Addr
	var sport, dport uint16
	for word := range strings.SplitSeq(inner, ",") {
		key, value, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "src":
			src, err = parseAddr(value)
		case "dst":
			dst, err = parseAddr(value)
		case "sport":
			sport, err = parsePort(value)
		case "dport":
			dport, err = parsePort(value)
		}
		if err != nil {
			return flow.Tuple{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	if !src.IsValid() || src.BitLen() != dst.BitLen() {
		return flow.Tuple{}, fmt.Errorf("%q has not two addresses of one family", s)
	}
	return flow.Tuple{Src: netip.AddrPortFrom(src, sport), Dst: netip.AddrPortFrom(dst, dport)}, nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err == nil && (a.Zone() != "" || a.Is4In6()) {
		err = fmt.Errorf("%q is not an address of a packet", s)
	}
	return a, err
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err
}
