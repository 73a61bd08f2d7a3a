// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
)

// storedPaths is an API server with one NodePaths. It refuses what is not of the
// version that it has, and fails on demand.
type storedPaths struct {
	object *v1alpha1.NodePaths
	asked  []string
	fail   error
}

func (s *storedPaths) ask(verb string) error {
	s.asked = append(s.asked, verb)
	return s.fail
}

func (s *storedPaths) missing(name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Group: v1alpha1.GroupName, Resource: "nodepaths"}, name)
}

func (s *storedPaths) Get(_ context.Context, name string, _ metav1.GetOptions) (*v1alpha1.NodePaths, error) {
	if err := s.ask("get"); err != nil {
		return nil, err
	}
	if s.object == nil {
		return nil, s.missing(name)
	}
	return s.object.DeepCopy(), nil
}

func (s *storedPaths) Create(_ context.Context, p *v1alpha1.NodePaths, _ metav1.CreateOptions) (*v1alpha1.NodePaths, error) {
	if err := s.ask("create"); err != nil {
		return nil, err
	}
	if p.ResourceVersion != "" || s.object != nil {
		return nil, errors.New("created with a version, or twice")
	}
	return s.store(p, "1"), nil
}

func (s *storedPaths) Update(_ context.Context, p *v1alpha1.NodePaths, _ metav1.UpdateOptions) (*v1alpha1.NodePaths, error) {
	if err := s.ask("update"); err != nil {
		return nil, err
	}
	if s.object == nil {
		return nil, s.missing(p.Name)
	}
	if p.ResourceVersion != s.object.ResourceVersion {
		return nil, errors.New("conflict")
	}
	return s.store(p, s.object.ResourceVersion+"1"), nil
}

func (s *storedPaths) store(p *v1alpha1.NodePaths, version string) *v1alpha1.NodePaths {
	s.object = p.DeepCopy()
	s.object.ResourceVersion = version
	return s.object.DeepCopy()
}

// TestPathWriter: what is asked of the API server, step by step.
func TestPathWriter(t *testing.T) {
	server := &storedPaths{}
	now := noon
	newWriter := func() *PathWriter {
		return NewPathWriter(PathWriterParams{Clients: &Clients{Paths: server}, Now: func() time.Time { return now }})
	}
	w := newWriter()
	report := PathReport{Node: pathN1, Mode: routing.ModeAuto, Paths: []PathState{statePath("n2", routing.IPv4, routing.PathBGP)}}
	path := &report.Paths[0]
	for _, step := range []struct {
		name   string
		later  time.Duration
		change func()
		fails  bool
		want   []string
	}{
		{"first", 0, func() {}, false, []string{"get", "create"}},
		{"nothing new", time.Second, func() {}, false, nil},
		{"on a tunnel", time.Second, func() {
			path.Kind, path.Since, path.Reason = routing.PathTunnel, now, "probes: no answer on any flow"
		}, false, []string{"update"}},
		{"answered again, too soon to tell", time.Second, func() { path.Reason = "probes: answered for 0s of 5s" }, false, nil},
		{"time to tell", detailInterval, func() { path.Reason = "probes: answered for 3s of 5s" }, false, []string{"update"}},
		{"times alone", detailInterval, func() { path.Reason = "probes: answered for 4s of 5s" }, false, nil},
		{"on the route, told at once", time.Second, func() {
			path.Kind, path.Since, path.Reason = routing.PathBGP, now, "BGP route 10.10.2.0/24"
		}, false, []string{"update"}},
		{"API server away", time.Second, func() { path.Kind, server.fail = routing.PathNone, errors.New("away") }, true, []string{"update"}},
		{"still away", time.Second, func() {}, true, []string{"get"}},
		{"back", time.Second, func() { server.fail = nil }, false, []string{"get", "update"}},
		{"somebody deleted it", relist, func() { server.object = nil }, false, []string{"get", "create"}},
		{"deleted, not noticed yet", time.Second, func() { server.object, path.Kind = nil, routing.PathBGP }, false, []string{"update", "create"}},
		{"somebody else wrote", time.Second, func() {
			server.object.ResourceVersion, path.Kind = "9", routing.PathDirect
		}, true, []string{"update"}},
		{"read anew", time.Second, func() {}, false, []string{"get", "update"}},
		{"the agent is started anew", time.Hour, func() {
			w = newWriter()
			path.Since, path.Found = now, true
		}, false, []string{"get"}},
	} {
		now = now.Add(step.later)
		step.change()
		server.asked = nil
		if err := w.Write(t.Context(), report); (err != nil) != step.fails {
			t.Errorf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff(step.want, server.asked); diff != "" {
			t.Errorf("%s: asked (-want +got):\n%s", step.name, diff)
		}
	}
}
