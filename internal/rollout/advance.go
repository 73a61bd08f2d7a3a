// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"
	"strings"
)

// Ack is what a node says of a rollout.
type Ack struct {
	// Phase that it has carried out, empty if none.
	Phase Phase
	// Problem is why it does not go on, or in Prepare what it would lose.
	Problem string
	// Loses says that the node has prepared, but would lose other nodes.
	Loses bool
}

// Progress is how far a rollout is.
type Progress struct {
	// Phase is the one to carry out next.
	Phase Phase
	// Ready is how many of all nodes have carried out the phase before Phase was
	// looked for.
	Ready, All int
	// Message says in words what is waited for.
	Message string
}

// named bounds how many nodes a message names.
const named = 5

// Advance finds the phase that follows from what the nodes say.
func Advance(r *Rollout, nodes []string, acks map[string]Ack) Progress {
	p := Progress{Phase: r.Phase, All: len(nodes)}
	if r.Phase == Complete || r.Phase == Superseded {
		p.Ready = p.All
		return p
	}
	var silent, troubled []string
	lost := false
	for _, node := range nodes {
		ack := acks[node]
		switch {
		case !ack.Phase.Reached(r.Phase) && (ack.Problem == "" || ack.Loses):
			// What it would lose it said of the phase before.
			silent = append(silent, node)
		case !ack.Phase.Reached(r.Phase), r.Phase == Prepare && ack.Loses && !r.Force:
			troubled = append(troubled, fmt.Sprintf("%s: %s", node, ack.Problem))
			lost = lost || ack.Loses
		default:
			p.Ready++
		}
	}
	if p.Ready == p.All {
		p.Phase = order[slices.Index(order, r.Phase)+1]
		return p
	}
	var parts []string
	if len(troubled) > 0 {
		parts = append(parts, some(troubled, "; "))
	}
	if len(silent) > 0 {
		parts = append(parts, "waiting for "+some(silent, ", "))
	}
	p.Message = strings.Join(parts, "; ")
	if lost {
		p.Message += "; spec.force goes on all the same"
	}
	return p
}

// some joins what fits a message.
func some(list []string, separator string) string {
	if more := len(list) - named; more > 0 {
		return strings.Join(list[:named], separator) + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(list, separator)
}
