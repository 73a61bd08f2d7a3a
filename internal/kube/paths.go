// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"regexp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
)

// maxReason bounds the reason of a path in bytes.
const maxReason = 512

// PathReport is what a node has to say of its paths to the Pods of others.
type PathReport struct {
	Node *Node
	// Mode that chooses the paths.
	Mode  routing.Mode
	Paths []PathState
}

// PathState is a path, and since when it is of its kind.
type PathState struct {
	routing.Path
	Since time.Time
	// Found says that the path was like that when the agent started, so that Since
	// is no more than when it was seen first.
	Found bool
}

// pathKey names a path.
type pathKey struct {
	node   string
	family v1alpha1.Family
}

func keyOf(p v1alpha1.NodePath) pathKey { return pathKey{p.Node, p.Family} }

// object renders the report. have is the object as it stands, nil: there is none. Of
// a path that an earlier run of the agent has told it has the time.
func (r PathReport) object(have *v1alpha1.NodePaths) *v1alpha1.NodePaths {
	object := &v1alpha1.NodePaths{
		ObjectMeta: metav1.ObjectMeta{
			Name: r.Node.Name,
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "v1", Kind: "Node", Name: r.Node.Name, UID: types.UID(r.Node.UID)},
			},
		},
		Status: v1alpha1.NodePathsStatus{Node: r.Node.Name, Mode: string(r.Mode)},
	}
	told := map[pathKey]v1alpha1.NodePath{}
	if have != nil {
		object.ResourceVersion = have.ResourceVersion
		told = pathsByKey(have.Status.Paths)
	}
	s := &object.Status
	for _, p := range r.Paths {
		path := nodePath(p)
		if old, ok := told[keyOf(path)]; ok && p.Found && old.Path == path.Path && old.Since.Time.Before(path.Since.Time) {
			path.Since = old.Since
		}
		s.Paths = append(s.Paths, path)
		*countOf(s, path.Path)++
	}
	slices.SortFunc(s.Paths, func(a, b v1alpha1.NodePath) int {
		return cmp.Or(
			cmp.Compare(rank(r.Mode, a.Path), rank(r.Mode, b.Path)),
			cmp.Compare(a.Node, b.Node), cmp.Compare(a.Family, b.Family))
	})
	if more := len(s.Paths) - v1alpha1.MaxPaths; more > 0 {
		s.Paths, s.Omitted = s.Paths[:v1alpha1.MaxPaths], int32(more)
	}
	return object
}

func pathsByKey(paths []v1alpha1.NodePath) map[pathKey]v1alpha1.NodePath {
	out := make(map[pathKey]v1alpha1.NodePath, len(paths))
	for _, p := range paths {
		out[keyOf(p)] = p
	}
	return out
}

func nodePath(p PathState) v1alpha1.NodePath {
	out := v1alpha1.NodePath{
		Node: p.Node, Family: v1alpha1.FamilyIPv4, PodCIDR: p.PodCIDR.String(), Path: v1alpha1.PathKind(p.Kind),
		Since: metav1.NewTime(p.Since.Truncate(time.Second)), Reason: fit(p.Reason, maxReason),
	}
	if p.Family == routing.IPv6 {
		out.Family = v1alpha1.FamilyIPv6
	}
	for _, hop := range p.NextHops[:min(len(p.NextHops), v1alpha1.MaxNextHops)] {
		out.NextHops = append(out.NextHops, hop.String())
	}
	return out
}

// countOf is where paths of a kind are counted.
func countOf(s *v1alpha1.NodePathsStatus, kind v1alpha1.PathKind) *int32 {
	switch kind {
	case v1alpha1.PathDirect:
		return &s.Direct
	case v1alpha1.PathBGP:
		return &s.BGP
	case v1alpha1.PathDefault:
		return &s.Default
	case v1alpha1.PathTunnel:
		return &s.Tunnel
	}
	return &s.None
}

// rank orders paths: what is not as the mode would have it comes first.
func rank(mode routing.Mode, kind v1alpha1.PathKind) int {
	switch {
	case kind == v1alpha1.PathNone:
		return 0
	case kind == v1alpha1.PathTunnel && mode != routing.ModeEncap:
		return 1
	}
	return 2
}

// news says how much two reports differ.
type news int

const (
	// newsNone: nobody needs to know. The words of reasons may differ in times, which
	// grow by themselves.
	newsNone news = iota
	// newsDetail: nodes came or went, or the path to one goes another way or is there
	// for another reason.
	newsDetail
	// newsPath: the mode is another one, or the path to a node is of another kind.
	newsPath
)

// changed compares what is to be written with what was. It looks at the paths that
// both name, and at the numbers for the rest.
func changed(have, want *v1alpha1.NodePaths) news {
	if have == nil {
		return newsPath
	}
	a, b := have.Status, want.Status
	if a.Mode != b.Mode {
		return newsPath
	}
	found := newsNone
	if len(a.Paths) != len(b.Paths) || a.Omitted != b.Omitted || !slices.Equal(counts(a), counts(b)) ||
		!slices.Equal(have.OwnerReferences, want.OwnerReferences) {
		found = newsDetail
	}
	before := pathsByKey(a.Paths)
	for _, path := range b.Paths {
		old, known := before[keyOf(path)]
		switch {
		case !known:
			found = newsDetail
		case old.Path != path.Path:
			return newsPath
		case old.PodCIDR != path.PodCIDR || !old.Since.Equal(&path.Since) || !slices.Equal(old.NextHops, path.NextHops) ||
			old.Reason != path.Reason && timeless(old.Reason) != timeless(path.Reason):
			found = newsDetail
		}
	}
	return found
}

func counts(s v1alpha1.NodePathsStatus) []int32 {
	return []int32{s.Direct, s.BGP, s.Default, s.Tunnel, s.None}
}

// duration is a time as time.Duration writes it.
var duration = regexp.MustCompile(`\b([0-9.]+(h|m|s|ms|µs|ns))+\b`)

// timeless is a reason without the times in it.
func timeless(reason string) string { return duration.ReplaceAllString(reason, "") }
