// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/waymark-net/waymark/internal/config"
)

// Phase is how far a rollout is.
type Phase string

// The phases, in their order; see the package. The last one is of a rollout that
// was overtaken by another.
const (
	Prepare    Phase = "Prepare"
	Flip       Phase = "Flip"
	Finish     Phase = "Finish"
	Complete   Phase = "Complete"
	Superseded Phase = "Superseded"
)

var order = []Phase{Prepare, Flip, Finish, Complete}

// Reached tells whether p is q or later. A phase that is none comes before all.
func (p Phase) Reached(q Phase) bool { return slices.Index(order, p) >= slices.Index(order, q) }

// Rollout is one change of config.Traffic.
type Rollout struct {
	Name   string
	Number int64
	// From is how traffic travelled, To how it is to. They are the same in the first
	// rollout of a cluster.
	From, To config.Traffic
	// Reverses says that it turns one round in whose course nodes had begun to send
	// by its new path. Every node accepts To already.
	Reverses bool
	// Force lets nodes move although some would lose others.
	Force bool
	Phase Phase
	// Accepting are the nodes that accept what comes by the path of To.
	Accepting map[string]bool
}

// Accepts are the kinds of traffic that a node is to accept, To first.
func (r *Rollout) Accepts() []config.Traffic {
	if r.Phase.Reached(Finish) || r.From == r.To {
		return []config.Traffic{r.To}
	}
	return []config.Traffic{r.To, r.From}
}

// SendsNew tells whether packets to a node are to go by the path of To.
func (r *Rollout) SendsNew(node string) bool {
	return r.Phase.Reached(Finish) || r.Phase == Flip && (r.Reverses || r.Accepting[node])
}

// Narrow tells whether what is sent must fit the path of From as well.
func (r *Rollout) Narrow() bool { return r.Phase != Complete }

// Next returns the rollout that follows from what the configuration wants, and nil
// while there is nothing to do. current is the one in force; nil if there is none:
// then the first one says how traffic travels now. said is a note for the current
// one where what is wanted has to wait.
func Next(current *Rollout, want config.Traffic) (next *Rollout, said string) {
	if current == nil {
		return &Rollout{Number: 1, From: want, To: want, Phase: Complete}, ""
	}
	if current.To == want {
		return nil, ""
	}
	next = &Rollout{Number: current.Number + 1, From: current.To, To: want, Phase: Prepare}
	switch current.Phase {
	case Prepare:
		// Nobody sends by its new path: it is as if it had never been.
		next.From = current.From
	case Flip:
		if want != current.From {
			return nil, fmt.Sprintf("a change to %s follows", want)
		}
		next.Reverses, next.Phase = true, Flip
	}
	if port, both := samePort(next.From, want); both {
		return nil, fmt.Sprintf("no change to %s: two types of tunnel cannot share UDP port %d; change to another port", want, port)
	}
	return next, ""
}

// samePort tells whether two kinds of traffic need one UDP port for different types
// of tunnel. No node can accept both.
func samePort(a, b config.Traffic) (port uint16, both bool) {
	at := func(t config.Traffic) uint16 { return cmp.Or(t.Tunnel.Port, t.Tunnel.Type.DefaultPort()) }
	return at(a), a.UsesTunnel() && b.UsesTunnel() && a.Tunnel.Type != b.Tunnel.Type && at(a) == at(b)
}
