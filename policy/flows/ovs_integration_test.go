// SPDX-License-Identifier: Apache-2.0

//go:build integration

package flows

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/ovstest"
)

// TestVerdictsOfRealSwitch asks Open vSwitch itself what becomes of packets
// under random policies: first packets, later ones and answers.
func TestVerdictsOfRealSwitch(t *testing.T) {
	t.Parallel()
	o := ovstest.StartOVS(t)
	o.AddBridge("br-int", ovstest.DatapathDummy)
	o.AddPort("br-int", "gw", "dummy", gatewayPort)
	for i := range worldPods {
		o.AddPort("br-int", fmt.Sprintf("pod%d", i), "dummy", podAt(i).local.Port)
	}
	o.Ofctl("set-frags", o.Socket("br-int"), "nx-match")
	path := filepath.Join(t.TempDir(), "flows")
	cases, denied := 0, 0
	for seed := uint64(1); seed <= 4; seed++ {
		g, n := newGenerator(seed), newNode(t, Params{})
		for range 4 {
			g.step(n)
			if err := os.WriteFile(path, []byte(n.sw.Dump()), 0o600); err != nil {
				t.Fatal(err)
			}
			o.Ofctl("replace-flows", o.Socket("br-int"), path)
			for range 15 {
				p := g.packet()
				if !n.concerned(p) {
					continue
				}
				if !n.allowed(p) {
					denied++
				}
				n.ask(o, p, n.allowed(p), false, flow.CTNew)
				n.ask(o, p, n.allowed(p), false, flow.CTEstablished)
				n.ask(o, p, n.allowed(p), true, flow.CTEstablished|flow.CTReply)
				cases += 3
			}
		}
	}
	t.Logf("%d cases, %d connections denied", cases, denied)
}

// ask compares the verdict of ofproto/trace for a packet of a connection.
func (n *node) ask(o *ovstest.OVS, p packet, allowed, answer bool, state uint32) {
	n.t.Helper()
	first := p
	if answer {
		p = p.answer()
	}
	want := "drop"
	if allowed {
		want = n.want(p)
	}
	packet := append(n.packet(p, answer),
		flow.Uint(flow.FieldCTState, uint64(state|flow.CTTracked)), // without it there are no ports of a connection
		flow.Uint(flow.FieldCTNWProto, uint64(first.proto)),
		flow.Uint(flow.FieldCTTPSrc, uint64(first.sport)), flow.Uint(flow.FieldCTTPDst, uint64(first.dport)))
	if got, trace := o.Trace("br-int", packet, state); got != want {
		n.t.Errorf("%v: %s, want %s:\n%s", p, got, want, trace)
	}
}

// TestGoldenFilesAreUnderstood has the real parser read every golden file.
func TestGoldenFilesAreUnderstood(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, f := range files {
		out, err := exec.Command("ovs-ofctl", "-O", "OpenFlow15", "parse-flows", f).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", f, err, out)
		}
	}
}
