// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

// equalEnds compares netip.AddrPort, which has fields of its own.
var equalEnds = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func entry(zone uint16, protocol uint8, mark uint32, ends ...string) Entry {
	end := netip.MustParseAddrPort
	return Entry{Mark: mark, Connection: flow.Connection{
		Zone: zone, Protocol: protocol,
		Original: flow.Tuple{Src: end(ends[0]), Dst: end(ends[1])}, Reply: flow.Tuple{Src: end(ends[2]), Dst: end(ends[3])},
	}}
}

func read(text string) ([]Entry, error) {
	var out []Entry
	err := Parse(strings.NewReader(text), func(e Entry) error { out = append(out, e); return nil })
	return out, err
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       Entry
	}{
		{
			"nat and state", "tcp,orig=(src=10.0.0.1,dst=10.0.1.1,sport=1001,dport=80),reply=(src=10.0.0.9,dst=10.0.0.1,sport=8080,dport=1001),zone=65524,mark=5,labels=0x50000,protoinfo=(state=SYN_SENT)",
			entry(65524, 6, 5, "10.0.0.1:1001", "10.0.1.1:80", "10.0.0.9:8080", "10.0.0.1:1001"),
		},
		{
			"verbose", "tcp,orig=(src=10.0.0.1,dst=10.0.1.1,sport=1001,dport=80),reply=(src=10.0.0.9,dst=10.0.0.1,sport=80,dport=1001),id=7,zone=7,status=CONFIRMED|SRC_NAT_DONE,timeout=86400,mark=4294967295,labels=0x5,protoinfo=(state_orig=SYN_SENT,state_reply=CLOSED,flags_orig=0,flags_reply=0),helper=ftp,parent=(src=10.0.0.1,dst=10.0.0.2,sport=1,dport=21)",
			entry(7, 6, 1<<32-1, "10.0.0.1:1001", "10.0.1.1:80", "10.0.0.9:80", "10.0.0.1:1001"),
		},
		{
			"IPv6", "udp,orig=(src=fd00::1,dst=fd00:1::1,sport=1008,dport=80),reply=(src=fd00::9,dst=fd00::1,sport=80,dport=1008),zone=9",
			entry(9, 17, 0, "[fd00::1]:1008", "[fd00:1::1]:80", "[fd00::9]:80", "[fd00::1]:1008"),
		},
		{
			"ICMP, the zone that is not printed", "icmp,orig=(src=10.0.0.1,dst=10.0.1.3,id=5,type=8,code=0),reply=(src=10.0.1.3,dst=10.0.0.77,id=5,type=0,code=0)",
			entry(0, 1, 0, "10.0.0.1:0", "10.0.1.3:0", "10.0.1.3:0", "10.0.0.77:0"),
		},
		{
			"a protocol without a name", "47,orig=(src=10.0.0.1,dst=10.0.1.1,sport=0,dport=0),reply=(src=10.0.1.1,dst=10.0.0.1,sport=0,dport=0),zone=7",
			entry(7, 47, 0, "10.0.0.1:0", "10.0.1.1:0", "10.0.1.1:0", "10.0.0.1:0"),
		},
	} {
		got, err := read("\n" + tc.text + "\r\n \n")
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if diff := cmp.Diff([]Entry{tc.want}, got, equalEnds); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestParseErrors(t *testing.T) {
	const half = "orig=(src=10.0.0.1,dst=10.0.1.1,sport=1,dport=2)"
	for _, tc := range []struct{ text, want string }{
		{"banana", `protocol "banana"`},
		{"256," + half, `protocol "256"`},
		{"tcp", "a direction is missing"},
		{"tcp," + half, "a direction is missing"},
		{"tcp,orig=10.0.0.1", "not in parentheses"},
		{"tcp,orig=(src=10.0.0.1", "not in parentheses"},
		{"tcp,orig=(src=10.0.0.1)", "two addresses of one family"},
		{"tcp,orig=(src=10.0.0.1,dst=fd00::1)", "two addresses of one family"},
		{"tcp,orig=(src=banana,dst=10.0.0.1)", "src: "},
		{"tcp,orig=(src=10.0.0.1,dst=fe80::1%eth0)", "not an address of a packet"},
		{"tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=65536)", "sport: "},
		{"tcp,orig=(src=10.0.0.1,dst=10.0.0.2,dport=-1)", "dport: "},
		{"tcp," + half + ",zone=65536", "zone: "},
		{"tcp," + half + ",mark=x", "mark: "},
		{strings.Repeat("x", maxLine+1), "token too long"},
	} {
		if _, err := read(tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.80s: %v, want %q", tc.text, err, tc.want)
		}
	}
	stop := errors.New("enough")
	n := 0
	line := "tcp," + half + strings.Replace(half, "orig", ",reply", 1) + "\n"
	err := Parse(strings.NewReader(line+line), func(Entry) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("%d entries, %v", n, err)
	}
}

// recorded is what Open vSwitch has printed.
func recorded(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded output: %v", err)
	}
	var out []string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	return out
}

func TestParseRecorded(t *testing.T) {
	for _, text := range recorded(t) {
		got, err := read(text)
		if err != nil || len(got) != strings.Count(text, "\n") {
			t.Errorf("%d of %d lines, %v", len(got), strings.Count(text, "\n"), err)
		}
		for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
			if !strings.HasPrefix(line, format(got[i])) {
				t.Errorf("%s\nis read as\n%s", line, format(got[i]))
			}
		}
	}
}

// format is the beginning of an entry as Open vSwitch prints it.
func format(e Entry) string {
	name := fmt.Sprint(e.Protocol)
	for n, p := range protocols {
		if p == e.Protocol {
			name = n
		}
	}
	tuple := func(t flow.Tuple) string {
		s := fmt.Sprintf("(src=%s,dst=%s", t.Src.Addr(), t.Dst.Addr())
		if e.Protocol == flow.ProtoICMP || e.Protocol == flow.ProtoICMPv6 {
			return s
		}
		return s + fmt.Sprintf(",sport=%d,dport=%d)", t.Src.Port(), t.Dst.Port())
	}
	s := name + ",orig=" + tuple(e.Original)
	if !strings.HasSuffix(s, ")") {
		return s
	}
	s += ",reply=" + tuple(e.Reply)
	if e.Zone != 0 {
		s += fmt.Sprintf(",zone=%d", e.Zone)
	}
	if e.Mark != 0 {
		s += fmt.Sprintf(",mark=%d", e.Mark)
	}
	return s
}

func FuzzParse(f *testing.F) {
	for _, text := range recorded(f) {
		f.Add(text)
		for line := range strings.Lines(text) {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := read(text)
		if err != nil {
			return
		}
		for _, e := range got {
			if e.Protocol == flow.ProtoICMP || e.Protocol == flow.ProtoICMPv6 {
				continue
			}
			again, err := read(format(e))
			if err != nil || len(again) != 1 || again[0] != e {
				t.Fatalf("%+v is read again as %+v: %v", e, again, err)
			}
		}
	})
}
