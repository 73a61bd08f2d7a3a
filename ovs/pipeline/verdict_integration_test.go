// SPDX-License-Identifier: Apache-2.0

//go:build integration

package pipeline

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/ovs/ovstest"
)

// TestVerdictsOfRealSwitch asks Open vSwitch itself what becomes of every
// packet of the verdict tests.
func TestVerdictsOfRealSwitch(t *testing.T) {
	t.Parallel()
	o := ovstest.StartOVS(t)
	o.AddBridge("br-int", ovstest.DatapathDummy)
	for i, port := range []uint32{portGateway, portA, portB, portC, portD} {
		o.AddPort("br-int", fmt.Sprintf("p%d", i), "dummy", port)
	}
	o.AddPort("br-int", "tun", "geneve", portTunnel, "options:remote_ip=flow", "options:key=flow")
	path := filepath.Join(t.TempDir(), "flows")
	if err := os.WriteFile(path, []byte(text(testFlows())), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Ofctl("add-flows", o.Socket("br-int"), path)
	o.Ofctl("set-frags", o.Socket("br-int"), "nx-match")
	for _, c := range verdicts() {
		args := []string{"ofproto/trace", "br-int", c.packet}
		if state, ok := c.state(); ok {
			args = append(args, "--ct-next", state)
		}
		trace := o.Appctl(args...)
		if problem := judge(c.want, trace); problem != "" {
			t.Errorf("%s: %s:\n%s", c.name, problem, trace)
		}
	}
}

var (
	tableLine  = regexp.MustCompile(`^ *([0-9]+)\. .*?(?:, )?priority ([0-9]+)`)
	outputLine = regexp.MustCompile(`output:(?:NXM_NX_REG1\[\])?([0-9]*)|output port is ([0-9]+)`)
)

// judge compares the output of ofproto/trace with what a case wants.
func judge(want, text string) string {
	got, final := "", ""
	for line := range strings.Lines(text) {
		if m := tableLine.FindStringSubmatch(line); m != nil {
			got = "drop " + m[1] + "/" + m[2]
		}
		if rest, ok := strings.CutPrefix(line, "Final flow: "); ok {
			final = strings.TrimSpace(rest) + ","
		}
		for _, m := range outputLine.FindAllStringSubmatch(line, -1) {
			if port := m[1] + m[2]; port != "" {
				got = "output:" + port
			}
		}
	}
	if final == "unchanged," {
		final, _, _ = strings.Cut(text[strings.LastIndex(text, "\nFlow: ")+len("\nFlow: "):], "\n")
		final += ","
	}
	words := strings.Fields(want)
	if strings.HasPrefix(want, "drop") {
		words = []string{want}
	}
	if got != words[0] {
		return fmt.Sprintf("got %q, want %q", got, words[0])
	}
	for _, f := range words[1:] {
		if !strings.Contains(final, f+",") {
			return fmt.Sprintf("%s is not in the final flow", f)
		}
	}
	return ""
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
