// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/rollout"
)

// rolloutStore answers writes of a status as it is told, and counts what is made.
type rolloutStore struct {
	kube.RolloutClient
	answer error
	made   int
	// phases are those that were written.
	phases []v1alpha1.RolloutPhase
}

func (s *rolloutStore) UpdateStatus(_ context.Context, o *v1alpha1.NetworkRollout, _ metav1.UpdateOptions) (*v1alpha1.NetworkRollout, error) {
	s.phases = append(s.phases, o.Status.Phase)
	return o, s.answer
}

func (s *rolloutStore) Create(_ context.Context, o *v1alpha1.NetworkRollout, _ metav1.CreateOptions) (*v1alpha1.NetworkRollout, error) {
	s.made++
	return o, nil
}

// TestBeginAfterWhatIsKnown: a rollout that went on since it was read is not turned
// round as if it had not: its nodes may have taken the path away that leads back.
func TestBeginAfterWhatIsKnown(t *testing.T) {
	resource := schema.GroupResource{Group: v1alpha1.GroupName, Resource: "networkrollouts"}
	for _, test := range []struct {
		name   string
		answer error
		made   int
		fails  bool
	}{
		{"as it was", nil, 1, false},
		{"it went on", apierrors.NewConflict(resource, "rollout-2", errors.New("newer")), 0, false},
		{"it was deleted", apierrors.NewNotFound(resource, "rollout-2"), 0, false},
		{"no answer", errors.New("no answer"), 0, true},
	} {
		store := &rolloutStore{answer: test.answer}
		c := &Controller{params: Params{Clients: &kube.Clients{Rollouts: store}}}
		before := v1alpha1.NetworkRollout{Status: v1alpha1.NetworkRolloutStatus{Phase: v1alpha1.RolloutFlip}}
		err := c.begin(t.Context(), &kube.Snapshot{RolloutObjects: []v1alpha1.NetworkRollout{before}}, &rollout.Rollout{Number: 3, Reverses: true})
		if store.made != test.made || (err != nil) != test.fails {
			t.Errorf("%s: %d made, %v", test.name, store.made, err)
		}
		// Until the next one is there, nodes go by this one.
		if d := cmp.Diff([]v1alpha1.RolloutPhase{v1alpha1.RolloutFlip}, store.phases); d != "" {
			t.Errorf("%s: phases (-want +got):\n%s", test.name, d)
		}
	}
}

// TestSupersede: one that another followed on the way is over, the latest is not.
func TestSupersede(t *testing.T) {
	var objects []v1alpha1.NetworkRollout
	for i, phase := range []v1alpha1.RolloutPhase{v1alpha1.RolloutComplete, v1alpha1.RolloutFinish, v1alpha1.RolloutSuperseded, v1alpha1.RolloutFlip} {
		o := v1alpha1.NetworkRollout{Status: v1alpha1.NetworkRolloutStatus{Phase: phase}}
		o.Spec.Number = int64(i + 1)
		objects = append(objects, o)
	}
	store := &rolloutStore{}
	c := &Controller{params: Params{Clients: &kube.Clients{Rollouts: store}}}
	if err := c.supersede(t.Context(), &kube.Snapshot{RolloutObjects: objects}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]v1alpha1.RolloutPhase{v1alpha1.RolloutSuperseded}, store.phases); d != "" {
		t.Errorf("phases (-want +got):\n%s", d)
	}
}
