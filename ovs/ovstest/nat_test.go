// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"strings"
	"testing"
)

// TestTraceNAT: a connection gets another destination; its later packets and
// answers are translated, also when the packet is committed a second time.
func TestTraceNAT(t *testing.T) {
	sw := filled(t, parseFlows(t, `
table=0, priority=1,tcp actions=ct(table=1,zone=7)
table=1, priority=2,ct_state=+new+trk,ct_mark=0,tcp,nw_dst=9.9.9.9 actions=ct(commit,table=2,zone=7,nat(dst=2.2.2.2:8080),exec(set_field:1->ct_mark))
table=1, priority=1,ct_mark=1,tcp actions=ct(table=2,zone=7,nat)
table=2, priority=2,ct_state=+new+trk,tcp actions=ct(commit,zone=7,exec(set_field:5->ct_label)),output:2
table=2, priority=1,tcp actions=output:3`), 0, 1, 2)
	for _, tc := range []struct{ name, packet, want string }{
		{"first", "nw_src=1.1.1.1,nw_dst=9.9.9.9,tp_src=1000,tp_dst=80", "nw_src=1.1.1.1,nw_dst=2.2.2.2,tp_src=1000,tp_dst=8080"},
		{"again", "nw_src=1.1.1.1,nw_dst=9.9.9.9,tp_src=1000,tp_dst=80", "nw_src=1.1.1.1,nw_dst=2.2.2.2,tp_src=1000,tp_dst=8080"},
		{"answer", "nw_src=2.2.2.2,nw_dst=1.1.1.1,tp_src=8080,tp_dst=1000", "nw_src=9.9.9.9,nw_dst=1.1.1.1,tp_src=80,tp_dst=1000"},
		{"established", "nw_src=1.1.1.1,nw_dst=9.9.9.9,tp_src=1000,tp_dst=80", "nw_src=1.1.1.1,nw_dst=2.2.2.2,tp_src=1000,tp_dst=8080"},
		{"another client", "nw_src=1.1.1.2,nw_dst=9.9.9.9,tp_src=1000,tp_dst=80", "nw_src=1.1.1.2,nw_dst=2.2.2.2,tp_src=1000,tp_dst=8080"},
	} {
		v := sw.Trace(packetOf(t, "tcp,"+tc.packet))
		if len(v.Outputs) != 1 {
			t.Errorf("%s: %v, met\n%s", tc.name, v, v.Met())
			continue
		}
		out := v.Outputs[0].Packet.String() + ","
		for want := range strings.SplitSeq(tc.want, ",") {
			if !strings.Contains(out, want+",") {
				t.Errorf("%s: %s is not in %s", tc.name, want, out)
			}
		}
	}
	if got := sw.Connections(); len(got) != 2 || !got[0].Answered || got[0].Mark != 1 || got[0].Label[15] != 5 {
		t.Errorf("connections: %+v", got)
	}
	// A connection that would get the answers of another is refused.
	if v := sw.Trace(packetOf(t, "tcp,nw_src=1.1.1.1,nw_dst=9.9.9.9,tcp_src=1000,tcp_dst=81")); v.String() != "drop" {
		t.Errorf("clash: %v", v)
	}
}
