// SPDX-License-Identifier: Apache-2.0

package specs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	prefix = "[sig-network] Netpol"
	root   = "TestConformance"
)

var ginkgoReports = map[string]struct {
	text string
	want []Spec
}{
	"all states": {
		`[{"SuiteSucceeded":false,"More":1,"SpecReports":[
{"ContainerHierarchyTexts":null,"LeafNodeType":"SynchronizedBeforeSuite","LeafNodeText":"","State":"passed"},
{"ContainerHierarchyTexts":["[sig-network] Netpol","between"],"LeafNodeType":"It","LeafNodeText":"a","State":"passed","RunTime":1500000000},
{"ContainerHierarchyTexts":["[sig-network] Netpol"],"LeafNodeType":"It","LeafNodeText":"b","State":"failed","RunTime":2,
 "Failure":{"Message":"Had 24\n wrong"},"CapturedGinkgoWriterOutput":"out "},
{"ContainerHierarchyTexts":["[sig-network] Netpol"],"LeafNodeType":"It","LeafNodeText":"c","State":"skipped"},
{"ContainerHierarchyTexts":["[sig-network] Netpol"],"LeafNodeType":"It","LeafNodeText":"d","State":"skipped","Failure":{"Message":"no IPv6"}},
{"ContainerHierarchyTexts":["[sig-network] Netpol"],"LeafNodeType":"It","LeafNodeText":"e","State":"timedout"},
{"ContainerHierarchyTexts":["[sig-apps] Job"],"LeafNodeType":"It","LeafNodeText":"f","State":"failed"}]}]`,
		[]Spec{
			{Name: "[sig-network] Netpol between a", State: Passed, Seconds: 1.5},
			{Name: "[sig-network] Netpol b", State: Failed, Why: "failed: Had 24 wrong", Seconds: 2e-9, Log: "out \nHad 24\n wrong\n"},
			{Name: "[sig-network] Netpol c", State: LeftOut},
			{Name: "[sig-network] Netpol d", State: LeftOut, Why: "no IPv6"},
			{Name: "[sig-network] Netpol e", State: Failed, Why: "timedout:", Log: "\n\n"},
		},
	},
	"preparation failed": {
		`[{"SuiteSucceeded":false,"SpecReports":[{"LeafNodeType":"SynchronizedBeforeSuite","State":"failed","Failure":{"Message":"no nodes"}}]}]`,
		[]Spec{{Name: "SynchronizedBeforeSuite", State: Failed, Why: "failed: no nodes", Log: "\nno nodes\n"}},
	},
	"failed by itself": {
		`[{"SuiteSucceeded":false,"SpecialSuiteFailureReasons":["Interrupted by User"],"SpecReports":[]}]`,
		[]Spec{{Name: "the suite", State: Failed, Why: "it failed without a spec that failed: Interrupted by User"}},
	},
	"nothing": {`[{"SuiteSucceeded":true}]`, nil},
}

func TestParseGinkgo(t *testing.T) {
	for name, test := range ginkgoReports {
		t.Run(name, func(t *testing.T) {
			got, err := ParseGinkgo(strings.NewReader(test.text), prefix)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, wrong := range []string{"", "[]", "{}", `[{},{}]`, `[{"SpecReports":[{"RunTime":"x"}]}]`} {
		if specs, err := ParseGinkgo(strings.NewReader(wrong), prefix); err == nil {
			t.Errorf("%q: no error, %v", wrong, specs)
		}
	}
}

var goTests = map[string]struct {
	text string
	want []Spec
}{
	"all states": {
		`{"Action":"start"}
{"Action":"run","Test":"TestConformance"}
{"Action":"run","Test":"TestConformance/A"}
{"Action":"run","Test":"TestConformance/A/Should_pass"}
{"Action":"output","Test":"TestConformance/A/Should_pass","Output":"    helper.go:1: left out: connection over SCTP\n"}
{"Action":"pass","Test":"TestConformance/A/Should_pass","Elapsed":1.25}
{"Action":"run","Test":"TestConformance/A/Should_fail"}
{"Action":"output","Test":"TestConformance/A/Should_fail","Output":"    helper.go:1: FAILED Command was x\n"}
{"Action":"output","Test":"TestConformance/A/Should_fail","Output":"    helper.go:2: Expected connection to fail from a to b\n"}
{"Action":"fail","Test":"TestConformance/A/Should_fail","Elapsed":10}
{"Action":"fail","Test":"TestConformance/A","Elapsed":11}
{"Action":"run","Test":"TestConformance/B"}
{"Action":"output","Test":"TestConformance/B","Output":"    suite.go:9: Skipping B: suite does not support X\n"}
{"Action":"skip","Test":"TestConformance/B"}
{"Action":"run","Test":"TestConformance/C"}
{"Action":"fail","Test":"TestConformance"}
{"Action":"fail"}
`,
		[]Spec{
			{Name: "A/Should pass", State: Passed, Seconds: 1.25},
			{Name: "A/Should fail", State: Failed, Seconds: 10, Why: "Expected connection to fail from a to b"},
			{Name: "B", State: LeftOut, Why: "suite.go:9: Skipping B: suite does not support X"},
			{Name: "C", State: Failed, Why: "it did not end"},
		},
	},
	"setup failed after a subtest passed": {
		`{"Action":"run","Test":"TestConformance"}
{"Action":"run","Test":"TestConformance/A"}
{"Action":"pass","Test":"TestConformance/A"}
{"Action":"output","Test":"TestConformance","Output":"        Error:\n"}
{"Action":"output","Test":"TestConformance","Output":"        \ttimed out\n"}
{"Action":"fail","Test":"TestConformance","Elapsed":3}
`,
		[]Spec{
			{Name: "TestConformance", State: Failed, Seconds: 3, Why: "Error: timed out"},
			{Name: "A", State: Passed},
		},
	},
	"nothing": {"", nil},
}

func TestParseGoTest(t *testing.T) {
	for name, test := range goTests {
		t.Run(name, func(t *testing.T) {
			got, err := ParseGoTest(strings.NewReader(test.text), root)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(Spec{}, "Log")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if specs, err := ParseGoTest(strings.NewReader("--- PASS: x"), root); err == nil {
		t.Errorf("text: no error, %v", specs)
	}
}

// Whatever a suite writes, every spec has a name and a state, and one that did
// not pass says why.
func checkSpecs(t *testing.T, specs []Spec) {
	t.Helper()
	for _, spec := range specs {
		switch {
		case spec.State != Passed && spec.State != Failed && spec.State != LeftOut:
			t.Errorf("%+v: state", spec)
		case spec.State == Failed && spec.Why == "":
			t.Errorf("%+v: it does not say why", spec)
		case strings.ContainsAny(spec.Why, "\n\r"):
			t.Errorf("%+v: more than one line", spec)
		}
	}
}

func FuzzParseGinkgo(f *testing.F) {
	for _, test := range ginkgoReports {
		f.Add(test.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		specs, err := ParseGinkgo(strings.NewReader(text), prefix)
		if err == nil {
			checkSpecs(t, specs)
		}
	})
}

func FuzzParseGoTest(f *testing.F) {
	for _, test := range goTests {
		f.Add(test.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		specs, err := ParseGoTest(strings.NewReader(text), root)
		if err == nil {
			checkSpecs(t, specs)
		}
	})
}
