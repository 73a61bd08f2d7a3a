// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/waymark-net/waymark/internal/config"
)

// Limits of Events: a burst for each object, then one a minute; what is
// said again and again becomes a count. maxMessage is the API's own limit.
const (
	eventBurst = 50
	eventQPS   = 1. / 60
	maxMessage = 1024
)

// RecorderParams describe a Recorder.
type RecorderParams struct {
	Clients *Clients
	// Component is the program that the Events come from, such as waymark-agent.
	Component string
	// NodeName is where it runs; may be empty.
	NodeName string
}

// Recorder writes Events. Its methods may be called from any goroutine, do not
// block, and drop what is too much.
type Recorder struct {
	client      kubernetes.Interface
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

// NewRecorder returns a Recorder that keeps Events to itself before Run.
func NewRecorder(params RecorderParams) *Recorder {
	b := record.NewBroadcaster(record.WithCorrelatorOptions(record.CorrelatorOptions{BurstSize: eventBurst, QPS: eventQPS}))
	return &Recorder{
		client:      params.Clients.Core,
		broadcaster: b,
		recorder:    b.NewRecorder(scheme.Scheme, corev1.EventSource{Component: params.Component, Host: params.NodeName}),
	}
}

// Run sends Events until ctx ends.
func (r *Recorder) Run(ctx context.Context) error {
	sending := r.broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: r.client.CoreV1().Events("")})
	<-ctx.Done()
	sending.Stop()
	r.broadcaster.Shutdown()
	return context.Cause(ctx)
}

// Severity is the type of an Event.
type Severity string

// The severities.
const (
	Normal  Severity = Severity(corev1.EventTypeNormal)
	Warning Severity = Severity(corev1.EventTypeWarning)
)

// OnNode writes an Event about a node.
func (r *Recorder) OnNode(node *Node, severity Severity, reason, message string) {
	r.event(&corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: node.Name, UID: types.UID(node.UID)}, severity, reason, message)
}

// OnConfig writes an Event about the ConfigMap of the configuration document.
func (r *Recorder) OnConfig(document Document, severity Severity, reason, message string) {
	r.event(&corev1.ObjectReference{
		Kind: "ConfigMap", APIVersion: "v1", Namespace: config.Namespace, Name: config.ConfigMapName,
		UID: types.UID(document.UID), ResourceVersion: document.Version,
	}, severity, reason, message)
}

func (r *Recorder) event(about runtime.Object, severity Severity, reason, message string) {
	r.recorder.Event(about, string(severity), reason, fit(message, maxMessage))
}

// fit makes a message of several lines one line of at most so many bytes: what
// does not fit is left out line by line and counted.
func fit(message string, most int) string {
	lines := strings.Split(strings.TrimSpace(message), "\n")
	text := strings.Join(lines, "; ")
	for left := len(lines) - 1; len(text) > most && left > 0; left-- {
		text = fmt.Sprintf("%s; and %d more", strings.Join(lines[:left], "; "), len(lines)-left)
	}
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most-len("…")], "") + "…"
	}
	return text
}
