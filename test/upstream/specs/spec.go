// SPDX-License-Identifier: Apache-2.0

package specs

import "strings"

// State says how a spec ended.
type State string

// The states of a spec.
const (
	Passed  State = "passed"
	Failed  State = "failed"
	LeftOut State = "left out"
)

// Spec is what came of one spec.
type Spec struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Why it failed or was left out; of one that passed, what of it was not tried.
	Why     string  `json:"why,omitempty"`
	Seconds float64 `json:"seconds"`
	// Log is what the spec wrote.
	Log string `json:"-"`
}

// oneLine shortens text for a table.
func oneLine(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
