// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// ConditionNetworkReady is the node condition that says whether Waymark serves
// the node's Pods, and if not, why.
const ConditionNetworkReady = "WaymarkNetworkReady"

// NodeWriter writes the conditions of one node.
type NodeWriter struct {
	client kubernetes.Interface
	node   string
	now    func() time.Time
}

// NodeWriterParams describe a NodeWriter.
type NodeWriterParams struct {
	Clients *Clients
	// NodeName is the node whose conditions are written.
	NodeName string
	// Now is the clock of transition times.
	Now func() time.Time
}

// NewNodeWriter returns a NodeWriter.
func NewNodeWriter(params NodeWriterParams) *NodeWriter {
	return &NodeWriter{client: params.Clients.Core, node: params.NodeName, now: params.Now}
}

// NetworkCondition is what the conditions of a node say of its network.
type NetworkCondition struct {
	// Serving says that Pods can be connected. While it is false the node is
	// NetworkUnavailable, and schedulers place no Pods there.
	Serving bool
	// Ready says that nothing is wrong.
	Ready bool
	// Reason is one CamelCase word, Message says it in words.
	Reason, Message string
	// Configuration is the version of the ConfigMap that is in force on the
	// node; it becomes the annotation AnnotationConfiguration.
	Configuration string
}

// AnnotationConfiguration of a node holds the resource version of the ConfigMap
// that the node's agent has carried out.
const AnnotationConfiguration = "waymark.io/configuration"

// maxCondition bounds the message of a condition in bytes. Everybody who watches
// nodes gets it, from every node, and a node without routes in a large cluster
// has a lot to say.
const maxCondition = 8 << 10

// SetNetwork makes the node's conditions WaymarkNetworkReady and
// NetworkUnavailable say what c does. It writes only when something changes and
// may be called as often as one likes.
func (w *NodeWriter) SetNetwork(ctx context.Context, c NetworkCondition) error {
	node, err := w.client.CoreV1().Nodes().Get(ctx, w.node, metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return fmt.Errorf("read conditions of node %s: %w", w.node, err)
	}
	if len(c.Message) > maxCondition {
		c.Message = fit(c.Message, maxCondition)
	}
	now := metav1.NewTime(w.now().Truncate(time.Second))
	var changed []corev1.NodeCondition
	for _, want := range []corev1.NodeCondition{
		{Type: ConditionNetworkReady, Status: status(c.Ready), Reason: c.Reason, Message: c.Message},
		{Type: corev1.NodeNetworkUnavailable, Status: status(!c.Serving), Reason: c.Reason, Message: c.Message},
	} {
		want.LastHeartbeatTime, want.LastTransitionTime = now, now
		same := false
		for _, have := range node.Status.Conditions {
			if have.Type != want.Type {
				continue
			}
			same = have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message
			if have.Status == want.Status {
				want.LastTransitionTime = have.LastTransitionTime
			}
		}
		if !same {
			changed = append(changed, want)
		}
	}
	if len(changed) == 0 && node.Annotations[AnnotationConfiguration] == c.Configuration {
		return nil
	}
	// Conditions are merged by their type, so those of others stay.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]string{AnnotationConfiguration: c.Configuration}},
		"status":   map[string]any{"conditions": changed},
	})
	if err != nil {
		return fmt.Errorf("write conditions of node %s: %w", w.node, err)
	}
	_, err = w.client.CoreV1().Nodes().Patch(ctx, w.node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("write conditions of node %s: %w", w.node, err)
	}
	return nil
}

func status(b bool) corev1.ConditionStatus {
	if b {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}
