// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestSetNetworkBoundsTheMessage(t *testing.T) {
	for _, test := range []struct{ name, message, starts string }{
		{"short", "one\ntwo", "one\ntwo"},
		{"long", strings.Repeat("no route to somewhere, ", 1000), "no route to somewhere, "},
	} {
		t.Run(test.name, func(t *testing.T) {
			core := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}})
			w := NewNodeWriter(NodeWriterParams{Clients: &Clients{Core: core}, NodeName: "n1", Now: time.Now})
			set := func() {
				t.Helper()
				if err := w.SetNetwork(t.Context(), NetworkCondition{Reason: "NoRoute", Message: test.message}); err != nil {
					t.Fatal(err)
				}
			}
			set()
			node, err := core.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(node.Status.Conditions) != 2 {
				t.Fatalf("conditions %v, want two", node.Status.Conditions)
			}
			for _, c := range node.Status.Conditions {
				if !strings.HasPrefix(c.Message, test.starts) || len(c.Message) > maxCondition {
					t.Errorf("message of %s has %d bytes: %.60q…", c.Type, len(c.Message), c.Message)
				}
			}
			before := len(core.Actions())
			set()
			for _, a := range core.Actions()[before:] {
				if a.GetVerb() == "patch" {
					t.Error("the same is written again")
				}
			}
		})
	}
}
