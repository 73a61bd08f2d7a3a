// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/rollout"
	"github.com/waymark-net/waymark/routing"
)

// AnnotationRollout of a node holds, as JSON, what the node's agent says of the
// rollout in force (NodeRollout).
const AnnotationRollout = "waymark.io/rollout"

// NodeRollout is what a node's agent says of a rollout.
type NodeRollout struct {
	// Name of the rollout.
	Name    string        `json:"name"`
	Phase   rollout.Phase `json:"phase,omitempty"`
	Problem string        `json:"problem,omitempty"`
	Loses   bool          `json:"loses,omitempty"`
}

// parseNodeRollout takes what it cannot read for nothing said.
func parseNodeRollout(text string) NodeRollout {
	var n NodeRollout
	if text == "" || json.Unmarshal([]byte(text), &n) != nil {
		return NodeRollout{}
	}
	return n
}

// SetRollout writes the node's annotation AnnotationRollout.
func (w *NodeWriter) SetRollout(ctx context.Context, n NodeRollout) error {
	if len(n.Problem) > maxCondition {
		n.Problem = fit(n.Problem, maxCondition)
	}
	text, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("write rollout of node %s: %w", w.node, err)
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{AnnotationRollout: string(text)}}})
	if err != nil {
		return fmt.Errorf("write rollout of node %s: %w", w.node, err)
	}
	_, err = w.client.CoreV1().Nodes().Patch(ctx, w.node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("write rollout of node %s: %w", w.node, err)
	}
	return nil
}

// Rollout returns the rollout in force, nil if there is none.
func (s *Snapshot) Rollout() *rollout.Rollout {
	if len(s.RolloutObjects) == 0 {
		return nil
	}
	return parseRollout(&s.RolloutObjects[len(s.RolloutObjects)-1])
}

func parseRollout(o *v1alpha1.NetworkRollout) *rollout.Rollout {
	r := &rollout.Rollout{
		Name: o.Name, Number: o.Spec.Number, Reverses: o.Spec.Reverses, Force: o.Spec.Force,
		From: parseTraffic(o.Spec.From), To: parseTraffic(o.Spec.To),
		Phase:     cmp.Or(rollout.Phase(o.Status.Phase), initialPhase(o)),
		Accepting: map[string]bool{},
	}
	for _, n := range o.Status.Nodes {
		if rollout.Phase(n.Phase).Reached(rollout.Prepare) {
			r.Accepting[n.Node] = true
		}
	}
	return r
}

// initialPhase is that of a rollout whose status was not written yet.
func initialPhase(o *v1alpha1.NetworkRollout) rollout.Phase {
	switch {
	case o.Spec.Reverses:
		return rollout.Flip
	case o.Spec.From == o.Spec.To && o.Spec.Number == 1:
		return rollout.Complete
	}
	return rollout.Prepare
}

func parseTraffic(t v1alpha1.TrafficSettings) config.Traffic {
	return config.Traffic{
		Mode:              routing.Mode(t.Mode),
		Tunnel:            config.Tunnel{Type: encap.TunnelType(t.TunnelType), Port: uint16(t.TunnelPort), Underlay: encap.Underlay(t.TunnelUnderlay)},
		MTU:               int(t.MTU),
		TrustDefaultRoute: t.TrustDefaultRoute,
		BGP:               t.BGP,
	}
}

func trafficSettings(t config.Traffic) v1alpha1.TrafficSettings {
	return v1alpha1.TrafficSettings{
		Mode: string(t.Mode), TunnelType: string(t.Tunnel.Type), TunnelPort: int32(t.Tunnel.Port), TunnelUnderlay: string(t.Tunnel.Underlay),
		MTU: int32(t.MTU), TrustDefaultRoute: t.TrustDefaultRoute, BGP: t.BGP,
	}
}

// NewRollout is the object of a rollout, whose name follows from its number.
func NewRollout(r *rollout.Rollout) *v1alpha1.NetworkRollout {
	return &v1alpha1.NetworkRollout{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("rollout-%d", r.Number)},
		Spec: v1alpha1.NetworkRolloutSpec{
			Number: r.Number, From: trafficSettings(r.From), To: trafficSettings(r.To), Reverses: r.Reverses, Force: r.Force,
		},
	}
}

// SetProgress makes a rollout's status say how far it is, and what its nodes say.
// nodes are the names of all nodes, in order.
func SetProgress(o *v1alpha1.NetworkRollout, p rollout.Progress, nodes []string, acks map[string]rollout.Ack, now time.Time) {
	phase := v1alpha1.RolloutPhase(p.Phase)
	if o.Status.Phase != phase || o.Status.Since == nil {
		since := metav1.NewTime(now.Truncate(time.Second))
		o.Status.Phase, o.Status.Since = phase, &since
	}
	o.Status.Ready, o.Status.Message = fmt.Sprintf("%d/%d", p.Ready, p.All), p.Message
	o.Status.Nodes = nil
	for _, node := range nodes {
		ack := acks[node]
		o.Status.Nodes = append(o.Status.Nodes, v1alpha1.NodeRollout{Node: node, Phase: v1alpha1.RolloutPhase(ack.Phase), Problem: ack.Problem})
	}
}
