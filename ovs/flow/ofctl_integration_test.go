// SPDX-License-Identifier: Apache-2.0

//go:build integration

package flow

import (
	"os/exec"
	"strings"
	"testing"
)

// TestOfctlAcceptsText hands every text to the real parser of Open vSwitch and
// reads back what it prints.
func TestOfctlAcceptsText(t *testing.T) {
	t.Parallel()
	ofctl, err := exec.LookPath("ovs-ofctl")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		want, err := ParseFlow(text)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(ofctl, "-O", "OpenFlow15", "parse-flow", want.String()).CombinedOutput()
		if err != nil {
			t.Errorf("ovs-ofctl parse-flow %q: %v\n%s", text, err, out)
			continue
		}
		got, err := ParseFlow(addLine(string(out)))
		if err != nil {
			t.Errorf("what ovs-ofctl makes of %q: %v\n%s", text, err, out)
			continue
		}
		if got.Key() != want.Key() || !EqualActions(got.Actions, want.Actions) {
			t.Errorf("ovs-ofctl reads\n%s\nas\n%s", want, got)
		}
	}
}

// addLine turns the trace of a flow mod ("ADD table:1 priority=5,ip cookie:0x5
// actions=...") into the form of a flow.
func addLine(out string) string {
	_, line, _ := strings.Cut(out, "ADD ")
	head, actions, ok := strings.Cut(line, "actions=")
	if !ok {
		return ""
	}
	head = strings.NewReplacer("table:", "table=", "cookie:", "cookie=", "priority:", "priority=").Replace(head)
	return head + "actions=" + strings.TrimSpace(actions)
}
