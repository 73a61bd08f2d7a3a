// SPDX-License-Identifier: Apache-2.0

package localapi

import (
	"time"

	"github.com/waymark-net/waymark/internal/enforce"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/flows"
	"github.com/waymark-net/waymark/policy/stream"
)

// Policy is the answer to GET /policy.
type Policy struct {
	// Known says whether the agent knows what is to be enforced. As long as it
	// does not, what an earlier run left in the switch is in force, and rules and
	// Pods are empty.
	Known      bool       `json:"known"`
	Controller Controller `json:"controller"`
	// Problems are policies that deny more than was meant, perhaps, because the
	// agent did not understand all of them.
	Problems []Problem `json:"problems"`
	Rules    []Rule    `json:"rules"`
	// Pods are the isolated ones, and those that wait for their policies.
	Pods []Pod `json:"pods"`
}

// Controller is the connection with a controller.
type Controller struct {
	Connected bool `json:"connected"`
	// Since is when the connection began, or ended.
	Since time.Time `json:"since,omitzero"`
	// Address is that of the controller, of the last one if there is none now.
	Address string `json:"address,omitempty"`
	// Error is why there is no connection.
	Error string `json:"error,omitempty"`
}

// Problem is what of a policy was not understood.
type Problem struct {
	Policy string `json:"policy"`
	Reason string `json:"reason"`
}

// Rule is a rule in the switch and what it has counted since it was put there.
type Rule struct {
	// Number is what the rule is called in registers and in ct_label.
	Number    uint32 `json:"number"`
	Tier      string `json:"tier"`
	Direction string `json:"direction"`
	Action    string `json:"action"`
	// Of are the rules of policies that it stands for: rules that match and do
	// the same are one.
	Of []RuleOf `json:"of"`
	// Packets and Bytes are those of both directions of connections.
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	// Sessions are the packets that began a connection, or would have.
	Sessions uint64 `json:"sessions"`
}

// RuleOf is a rule of a policy.
type RuleOf struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Policy    string `json:"policy"`
	// Rule is its place in the list of its direction, from 0.
	Rule int    `json:"rule"`
	Name string `json:"name,omitempty"`
}

// Pod is an interface of a Pod of the node.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	// Port is its OpenFlow port.
	Port uint32 `json:"port"`
	// Held says that its policies are not known, so that it is cut off from
	// everybody but its node.
	Held bool `json:"held"`
	// Adopted says that it started without a controller, under the policies of
	// others with its labels.
	Adopted bool `json:"adopted"`
	// Isolated are the directions in which a NetworkPolicy isolates it.
	Isolated []string `json:"isolated"`
	// Denied is what was denied because nothing accepts it. What a rule denies is
	// with the rule.
	Denied map[string]Count `json:"denied"`
}

// Count is what was counted.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func policyOf(r enforce.Report, s stream.Status) Policy {
	out := Policy{
		Known:      r.Known,
		Controller: Controller{Connected: s.Connected, Since: s.Since},
		Problems:   []Problem{}, Rules: []Rule{}, Pods: []Pod{},
	}
	if s.Controller.IsValid() {
		out.Controller.Address = s.Controller.String()
	}
	if !s.Connected && s.Err != nil {
		out.Controller.Error = s.Err.Error()
	}
	for _, p := range s.Problems {
		out.Problems = append(out.Problems, Problem{Policy: p.Policy.String(), Reason: p.Reason})
	}
	for _, rule := range r.Rules {
		out.Rules = append(out.Rules, Rule{
			Number: rule.Number, Tier: rule.Tier.String(), Direction: rule.Direction.String(), Action: rule.Action.String(),
			Of: rulesOf(rule.Refs), Packets: rule.Packets, Bytes: rule.Bytes, Sessions: rule.Sessions,
		})
	}
	for _, p := range r.Pods {
		pod := Pod{
			Namespace: p.Pod.Namespace, Name: p.Pod.Name, UID: p.UID, Port: p.Port,
			Held: p.Held, Adopted: p.Adopted, Isolated: []string{}, Denied: map[string]Count{},
		}
		for d := range policy.Directions {
			pod.Denied[d.String()] = Count(p.Denied[d])
			if p.Isolated[d] {
				pod.Isolated = append(pod.Isolated, d.String())
			}
		}
		out.Pods = append(out.Pods, pod)
	}
	return out
}

func rulesOf(refs []flows.RuleRef) []RuleOf {
	out := make([]RuleOf, 0, len(refs))
	for _, ref := range refs {
		out = append(out, RuleOf{
			Kind: ref.Policy.Kind.String(), Namespace: ref.Policy.Namespace, Policy: ref.Policy.Name, Rule: ref.Index, Name: ref.Name,
		})
	}
	return out
}
