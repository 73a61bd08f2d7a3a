// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
)

var (
	noon   = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	pathN1 = &Node{Node: routing.Node{Name: "n1"}, UID: "u1"}
)

// statePath is a path to the Pods of a node, since noon.
func statePath(node string, f routing.Family, kind routing.PathKind, change ...func(*PathState)) PathState {
	s := PathState{Since: noon.Add(300 * time.Millisecond), Path: routing.Path{
		Node: node, Family: f, Kind: kind, Reason: "because", PodCIDR: netip.MustParsePrefix("10.10.0.0/24"),
	}}
	for _, c := range change {
		c(&s)
	}
	return s
}

func found(s *PathState) { s.Found = true }

// told is the entry of statePath.
func told(node string, f v1alpha1.Family, kind v1alpha1.PathKind, since time.Time) v1alpha1.NodePath {
	return v1alpha1.NodePath{
		Node: node, Family: f, PodCIDR: "10.10.0.0/24", Path: kind, Since: metav1.NewTime(since), Reason: "because",
	}
}

func TestNodePaths(t *testing.T) {
	const v4, v6 = v1alpha1.FamilyIPv4, v1alpha1.FamilyIPv6
	earlier := noon.Add(-time.Hour)
	var hops []netip.Addr
	var hopTexts []string
	for i := range v1alpha1.MaxNextHops + 1 {
		hops = append(hops, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		if i < v1alpha1.MaxNextHops {
			hopTexts = append(hopTexts, hops[i].String())
		}
	}
	withHops := told("n2", v4, v1alpha1.PathBGP, noon)
	withHops.NextHops, withHops.Reason = hopTexts, strings.Repeat("x", maxReason-len("…"))+"…"
	for _, test := range []struct {
		name  string
		mode  routing.Mode
		paths []PathState
		have  []v1alpha1.NodePath
		want  v1alpha1.NodePathsStatus
	}{
		{"alone", routing.ModeAuto, nil, nil, v1alpha1.NodePathsStatus{}},
		{
			"what is not as wanted comes first", routing.ModeAuto,
			[]PathState{
				statePath("n2", routing.IPv4, routing.PathDirect),
				statePath("n2", routing.IPv6, routing.PathTunnel),
				statePath("n3", routing.IPv4, routing.PathBGP),
				statePath("n3", routing.IPv6, routing.PathNone),
				statePath("n4", routing.IPv6, routing.PathTunnel),
				statePath("n5", routing.IPv4, routing.PathDefault),
			}, nil,
			v1alpha1.NodePathsStatus{Direct: 1, BGP: 1, Default: 1, Tunnel: 2, None: 1, Paths: []v1alpha1.NodePath{
				told("n3", v6, v1alpha1.PathNone, noon),
				told("n2", v6, v1alpha1.PathTunnel, noon),
				told("n4", v6, v1alpha1.PathTunnel, noon),
				told("n2", v4, v1alpha1.PathDirect, noon),
				told("n3", v4, v1alpha1.PathBGP, noon),
				told("n5", v4, v1alpha1.PathDefault, noon),
			}},
		},
		{
			"tunnels are as wanted", routing.ModeEncap,
			[]PathState{
				statePath("n2", routing.IPv4, routing.PathTunnel),
				statePath("n3", routing.IPv4, routing.PathNone),
				statePath("n4", routing.IPv4, routing.PathTunnel),
			}, nil,
			v1alpha1.NodePathsStatus{Tunnel: 2, None: 1, Paths: []v1alpha1.NodePath{
				told("n3", v4, v1alpha1.PathNone, noon),
				told("n2", v4, v1alpha1.PathTunnel, noon),
				told("n4", v4, v1alpha1.PathTunnel, noon),
			}},
		},
		{
			"since when, of those that the agent found", routing.ModeNoEncap,
			[]PathState{
				statePath("n2", routing.IPv4, routing.PathBGP, found),
				statePath("n2", routing.IPv6, routing.PathBGP, found), // another family was told
				statePath("n3", routing.IPv4, routing.PathBGP, found), // another kind was
				statePath("n4", routing.IPv4, routing.PathBGP),        // changed meanwhile, and back
				statePath("n5", routing.IPv4, routing.PathBGP, found), // told later than now
			},
			[]v1alpha1.NodePath{
				told("n2", v4, v1alpha1.PathBGP, earlier),
				told("n3", v4, v1alpha1.PathDirect, earlier),
				told("n4", v4, v1alpha1.PathBGP, earlier),
				told("n5", v4, v1alpha1.PathBGP, noon.Add(time.Hour)),
			},
			v1alpha1.NodePathsStatus{BGP: 5, Paths: []v1alpha1.NodePath{
				told("n2", v4, v1alpha1.PathBGP, earlier),
				told("n2", v6, v1alpha1.PathBGP, noon),
				told("n3", v4, v1alpha1.PathBGP, noon),
				told("n4", v4, v1alpha1.PathBGP, noon),
				told("n5", v4, v1alpha1.PathBGP, noon),
			}},
		},
		{
			"bounds of an entry", routing.ModeNoEncap,
			[]PathState{statePath("n2", routing.IPv4, routing.PathBGP, func(s *PathState) {
				s.NextHops, s.Reason = hops, strings.Repeat("x", 2*maxReason)
			})}, nil,
			v1alpha1.NodePathsStatus{BGP: 1, Paths: []v1alpha1.NodePath{withHops}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var have *v1alpha1.NodePaths
			if test.have != nil {
				have = &v1alpha1.NodePaths{ObjectMeta: metav1.ObjectMeta{Name: "n1", ResourceVersion: "7"}}
				have.Status.Paths = test.have
			}
			test.want.Node, test.want.Mode = "n1", string(test.mode)
			want := &v1alpha1.NodePaths{Status: test.want, ObjectMeta: metav1.ObjectMeta{Name: "n1", OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "u1"},
			}}}
			if have != nil {
				want.ResourceVersion = "7"
			}
			got := PathReport{Node: pathN1, Mode: test.mode, Paths: test.paths}.object(have)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("object (-want +got):\n%s", diff)
			}
		})
	}
}

// TestNodePathsAreBounded: in a large cluster the object names what is not as wanted,
// and counts the rest.
func TestNodePathsAreBounded(t *testing.T) {
	r := PathReport{Node: pathN1, Mode: routing.ModeAuto}
	for i := range 3000 {
		kind := routing.PathBGP
		if i%300 == 299 {
			kind = routing.PathTunnel
		}
		r.Paths = append(r.Paths, statePath(fmt.Sprintf("n%04d", i), routing.IPv4, kind))
	}
	s := r.object(nil).Status
	got := []int{len(s.Paths), int(s.Omitted), int(s.BGP), int(s.Tunnel)}
	if diff := cmp.Diff([]int{256, 3000 - 256, 2990, 10}, got); diff != "" {
		t.Errorf("entries, omitted, BGP, tunnel (-want +got):\n%s", diff)
	}
	names := []string{s.Paths[0].Node, s.Paths[9].Node, s.Paths[10].Node, s.Paths[255].Node}
	if diff := cmp.Diff([]string{"n0299", "n2999", "n0000", "n0245"}, names); diff != "" {
		t.Errorf("first and last of each part (-want +got):\n%s", diff)
	}
}

func TestChangedPaths(t *testing.T) {
	const reason = "probes of the route (BGP route 10.10.3.0/24): answered for 3s of 5s after 1 failure"
	base := func() PathReport {
		return PathReport{Node: pathN1, Mode: routing.ModeAuto, Paths: []PathState{
			statePath("n2", routing.IPv4, routing.PathDirect),
			statePath("n3", routing.IPv4, routing.PathTunnel, func(s *PathState) {
				s.Reason, s.NextHops = reason, []netip.Addr{netip.MustParseAddr("192.0.2.3")}
			}),
		}}
	}
	because := func(text string) func(*PathReport) {
		return func(r *PathReport) { r.Paths[1].Reason = text }
	}
	for _, test := range []struct {
		name   string
		change func(*PathReport)
		want   news
	}{
		{"nothing", func(*PathReport) {}, newsNone},
		{"a second went by", because(strings.Replace(reason, "3s", "4s", 1)), newsNone},
		{"minutes went by", because(strings.Replace(reason, "3s of 5s", "1m2.5s of 2m40s", 1)), newsNone},
		{"milliseconds went by", because(strings.Replace(reason, "3s", "150ms", 1)), newsNone},
		{"another failure", because(strings.Replace(reason, "1 failure", "2 failures", 1)), newsDetail},
		{"another route", because(strings.Replace(reason, "10.10.3.0/24", "10.10.0.0/16", 1)), newsDetail},
		{"other words", because("the route has not been probed yet: BGP route 10.10.3.0/24"), newsDetail},
		{"other next hop", func(r *PathReport) { r.Paths[1].NextHops = nil }, newsDetail},
		{"other Pod CIDR", func(r *PathReport) { r.Paths[0].PodCIDR = netip.MustParsePrefix("10.10.9.0/24") }, newsDetail},
		{"away and back", func(r *PathReport) { r.Paths[0].Since = noon.Add(time.Minute) }, newsDetail},
		{"a node came", func(r *PathReport) {
			r.Paths = append(r.Paths, statePath("n4", routing.IPv4, routing.PathDirect))
		}, newsDetail},
		{"a node went", func(r *PathReport) { r.Paths = r.Paths[:1] }, newsDetail},
		{"one came and one went", func(r *PathReport) { r.Paths[0].Node = "n9" }, newsDetail},
		{"Node made anew", func(r *PathReport) { r.Node = &Node{Node: pathN1.Node, UID: "u2"} }, newsDetail},
		{"another kind", func(r *PathReport) { r.Paths[1].Kind = routing.PathBGP }, newsPath},
		{"another kind, and a node came", func(r *PathReport) {
			r.Paths[1].Kind = routing.PathNone
			r.Paths = append(r.Paths, statePath("n4", routing.IPv4, routing.PathDirect))
		}, newsPath},
		{"another mode", func(r *PathReport) { r.Mode = routing.ModeHybrid }, newsPath},
	} {
		t.Run(test.name, func(t *testing.T) {
			report := base()
			test.change(&report)
			if got := changed(base().object(nil), report.object(nil)); got != test.want {
				t.Errorf("news %d, want %d", got, test.want)
			}
		})
	}
	if got := changed(nil, base().object(nil)); got != newsPath {
		t.Errorf("no object yet: news %d, want %d", got, newsPath)
	}
}
