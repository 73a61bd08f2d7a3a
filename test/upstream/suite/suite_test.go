// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/upstream/programs"
	"github.com/waymark-net/waymark/test/upstream/specs"
)

func TestChosen(t *testing.T) {
	spec := func(name string, state specs.State, why string) specs.Spec {
		return specs.Spec{Name: name, State: state, Why: why}
	}
	const (
		sctp   = "[sig-network] Netpol [Feature:SCTPConnectivity] x"
		passed = "[sig-network] Netpol y"
		skips  = "[sig-network] Netpol itself"
	)
	found := []specs.Spec{
		spec("[sig-network] Services z", specs.LeftOut, ""),
		spec(passed, specs.Passed, ""),
		spec(skips, specs.LeftOut, "no nodes"),
		spec("[sig-network] Netpol not asked for", specs.LeftOut, ""),
		spec(sctp, specs.LeftOut, ""),
		spec("SynchronizedBeforeSuite", specs.Failed, "failed: x"),
	}
	for name, test := range map[string]struct {
		sctp  bool
		focus string
		want  []specs.Spec
	}{
		"kernel without SCTP": {false, "", []specs.Spec{found[5], spec(sctp, specs.LeftOut, noSCTP), found[2], found[1]}},
		"not asked for":       {false, "y$", []specs.Spec{found[5], found[2], found[1]}},
		"kernel with SCTP":    {true, "", []specs.Spec{found[5], found[2], found[1]}},
	} {
		t.Run(name, func(t *testing.T) {
			sel := selection{names: netpolNames, leftOut: (&Suite{sctp: test.sctp}).withoutSCTP()}
			if diff := cmp.Diff(test.want, sel.chosen(slices.Clone(found), regexp.MustCompile(test.focus))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestServiceSelection(t *testing.T) {
	for name, want := range map[string]struct{ dual, ipv4 string }{
		"[sig-network] Services should serve a basic endpoint from pods [Conformance]":          {"", ""},
		"[sig-network] Service CIDRs should create Services and serve on different CIDRs":       {"", ""},
		"[sig-network] DNS should provide DNS for the cluster [Conformance]":                    {"", ""},
		"[sig-network] DNS configMap nameserver Change stubDomain should be able to [Serial]":   {"", ""},
		"[sig-network] Networking Granular Checks: Pods should function: udp [Conformance]":     {"", ""},
		"[sig-network] Networking Granular Checks: Services: sctp [Feature:SCTPConnectivity]":   {noSCTP, noSCTP},
		"[sig-network] [Feature:IPv6DualStack] should have ipv4 and ipv6 internal node ip":      {"", "it needs a cluster of both families"},
		"[sig-network] Services should work after restarting kube-proxy [Disruptive]":           {"it restarts kube-proxy", "it restarts kube-proxy"},
		"[sig-network] LoadBalancers [Feature:LoadBalancer] should have session affinity work":  {"it needs a cloud that makes load balancers", "it needs a cloud that makes load balancers"},
		"[sig-network] KubeProxy should set TCP CLOSE_WAIT timeout [Privileged]":                {"it looks into kube-proxy", "it looks into kube-proxy"},
		"[sig-network] Netpol NetworkPolicy between server and client should support something": {"another suite", "another suite"},
		"[sig-network] Networking should check kube-proxy urls":                                 {"another suite", "another suite"},
	} {
		for families, want := range map[topology.Families]string{topology.Dual: want.dual, topology.IPv4: want.ipv4, topology.IPv6: want.ipv4} {
			sel := (&Suite{}).serviceSelection(families)
			got := ""
			if !sel.names.MatchString(name) {
				got = "another suite"
			}
			for _, e := range sel.leftOut {
				if got == "" && e.names.MatchString(name) {
					got = e.why
				}
			}
			if got != want {
				t.Errorf("%s, %s: %q, want %q", families, name, got, want)
			}
		}
	}
}

func TestUnique(t *testing.T) {
	failed := specs.Spec{Name: "prepare", State: specs.Failed, Why: "x"}
	passed := specs.Spec{Name: "b", State: specs.Passed}
	leftOut := specs.Spec{Name: "a", State: specs.LeftOut, Why: "y"}
	twice := specs.Spec{Name: "prepare", State: specs.Passed}
	got := unique([]specs.Spec{twice, leftOut, passed, failed, leftOut})
	if diff := cmp.Diff([]specs.Spec{failed, passed, leftOut}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestGinkgoArgs(t *testing.T) {
	s := &Suite{programs: programs.Programs{Suite: "/e2e.test", Ginkgo: "/ginkgo"}}
	sel := selection{names: netpolNames, leftOut: s.withoutSCTP()}
	run := Run{Focus: "a|b", Skip: "c", Dir: "/out"}
	alone := s.ginkgoArgs([]string{"--kubeconfig=/config"}, run, sel, "X", "r.json")
	want := []string{
		"/e2e.test", "--kubeconfig=/config",
		"--ginkgo.v=true", "--ginkgo.no-color=true", "--ginkgo.timeout=4h",
		`--ginkgo.focus=\[sig-network\] Netpol .*(a|b)`, "--ginkgo.label-filter=X",
		`--ginkgo.skip=\[Feature:SCTPConnectivity\]`, "--ginkgo.skip=c", "--ginkgo.json-report=/out/r.json",
	}
	if diff := cmp.Diff(want, alone); diff != "" {
		t.Errorf("one at a time (-want +got):\n%s", diff)
	}
	run.Procs = 3
	want = []string{
		"/ginkgo", "run", "--v=true", "--no-color=true", "--timeout=4h",
		`--focus=\[sig-network\] Netpol .*(a|b)`, "--label-filter=X",
		`--skip=\[Feature:SCTPConnectivity\]`, "--skip=c", "--procs=3", "--output-dir=/out", "--json-report=r.json",
		"/e2e.test", "--", "--kubeconfig=/config",
	}
	if diff := cmp.Diff(want, s.ginkgoArgs([]string{"--kubeconfig=/config"}, run, sel, "X", "r.json")); diff != "" {
		t.Errorf("three at once (-want +got):\n%s", diff)
	}
}

func TestBelow(t *testing.T) {
	for expression, want := range map[string]string{
		"":      "^TestConformance$",
		"A|B":   "^TestConformance$/(A|B)",
		"A/x|y": "^TestConformance$/(A)/(x|y)",
	} {
		if got := below(expression); got != want {
			t.Errorf("below(%q) = %q, want %q", expression, got, want)
		}
	}
}

func TestLineWriter(t *testing.T) {
	var out bytes.Buffer
	w := &lineWriter{pass: regexp.MustCompile(`^yes`), out: &out}
	for _, part := range []string{"no\nye", "s 1\nno yes\nyes", " 2", "\nyes without end"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if got, want := out.String(), "yes 1\nyes 2\n"; got != want {
		t.Errorf("passed on %q, want %q", got, want)
	}
}
