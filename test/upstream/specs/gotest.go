// SPDX-License-Identifier: Apache-2.0

package specs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// goTestEvent is one event of `go tool test2json`.
type goTestEvent struct {
	Action  string
	Test    string
	Elapsed float64 // seconds
	Output  string
}

// goTest is what is known of one test.
type goTest struct {
	name     string
	action   string // "pass", "fail" or "skip" once it has ended
	seconds  float64
	log      strings.Builder
	children []*goTest
}

// ParseGoTest reads the events of `go tool test2json` and returns the tests
// without subtests as specs, in the order in which they began, and those with
// subtests that failed by themselves. Names are those below the test root.
func ParseGoTest(r io.Reader, root string) ([]Spec, error) {
	byName := map[string]*goTest{}
	var order []*goTest
	decoder := json.NewDecoder(r)
	for {
		var e goTestEvent
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("event %d: %w", decoder.InputOffset(), err)
		}
		if e.Test == "" {
			continue
		}
		test := byName[e.Test]
		if test == nil {
			test = &goTest{name: e.Test}
			byName[e.Test] = test
			order = append(order, test)
			if parent := byName[parentOf(e.Test)]; parent != nil {
				parent.children = append(parent.children, test)
			}
		}
		switch e.Action {
		case "output":
			test.log.WriteString(e.Output)
		case "pass", "fail", "skip":
			test.action, test.seconds = e.Action, e.Elapsed
		}
	}
	var specs []Spec
	for _, test := range order {
		if len(test.children) == 0 || test.state() == Failed && !test.childFailed() {
			specs = append(specs, test.spec(root))
		}
	}
	return specs, nil
}

// parentOf is the name of the test that a subtest is part of. Names may have
// slashes of their own, and then no such test is known.
func parentOf(name string) string {
	return name[:max(0, strings.LastIndexByte(name, '/'))]
}

// state of a test that did not end is failed.
func (t *goTest) state() State {
	switch t.action {
	case "pass":
		return Passed
	case "skip":
		return LeftOut
	}
	return Failed
}

func (t *goTest) childFailed() bool {
	for _, child := range t.children {
		if child.state() == Failed {
			return true
		}
	}
	return false
}

func (t *goTest) spec(root string) Spec {
	name := strings.ReplaceAll(strings.TrimPrefix(t.name, root+"/"), "_", " ")
	spec := Spec{Name: name, State: t.state(), Seconds: t.seconds, Log: t.log.String()}
	switch {
	case spec.State == LeftOut:
		spec.Why = reason(spec.Log, "skip: ")
	case spec.State == Failed && t.action == "":
		spec.Why = "it did not end"
	case spec.State == Failed:
		spec.Why = reason(spec.Log, "Expected connection", "Error:")
	}
	return spec
}

// reason is the first line of a log with one of the texts, the texts tried in
// order; or else the last line that says anything.
func reason(log string, texts ...string) string {
	lines := strings.Split(log, "\n")
	for _, text := range texts {
		for i, line := range lines {
			if at := strings.Index(line, text); at >= 0 {
				if rest := lines[i+1:]; strings.TrimSpace(line[at:]) == text && len(rest) > 0 {
					return oneLine(text + " " + rest[0])
				}
				return oneLine(line[at:])
			}
		}
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if line := strings.TrimSpace(lines[i]); line != "" && !strings.HasPrefix(line, "--- ") && !strings.HasPrefix(line, "=== ") {
			return oneLine(line)
		}
	}
	return "it says nothing"
}
