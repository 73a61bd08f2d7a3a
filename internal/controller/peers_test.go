// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/routing"
)

func TestPeerStatus(t *testing.T) {
	const (
		up   = v1alpha1.SessionEstablished
		down = v1alpha1.SessionActive
	)
	session := func(state v1alpha1.SessionState, text string) *v1alpha1.BGPSessionStatus {
		return &v1alpha1.BGPSessionStatus{State: state, LastError: text}
	}
	encap := config.Default()
	encap.Mode, encap.BGP.Enabled = routing.ModeEncap, false
	off := config.Default()
	off.BGP.Enabled = false
	rackA := &v1alpha1.NodeSelector{MatchLabels: map[string]string{"rack": "a"}}
	tests := []struct {
		name     string
		selector *v1alpha1.NodeSelector
		conf     *config.Config
		nodes    int
		notReady string
		sessions map[string]*v1alpha1.BGPSessionStatus
		ready    string
		reason   string
		message  string
	}{
		{name: "all up", nodes: 2, conf: config.Default(),
			sessions: map[string]*v1alpha1.BGPSessionStatus{"n1": session(up, ""), "n2": session(up, "")},
			ready:    "2/2", reason: "Established", message: "2/2 nodes established"},
		{name: "configuration not known", nodes: 1,
			sessions: map[string]*v1alpha1.BGPSessionStatus{"n1": session(up, "")},
			ready:    "1/1", reason: "Established", message: "1/1 nodes established"},
		{name: "each its problem", nodes: 5, notReady: "n5", conf: config.Default(),
			sessions: map[string]*v1alpha1.BGPSessionStatus{
				"n1": session(up, ""), "n2": session(down, "connection refused"),
				"n3": session(v1alpha1.SessionInvalid, "Secret kube-system/x does not exist"), "n5": session(up, ""),
			},
			ready: "1/5", reason: "NotEstablished",
			message: "1/5 nodes established; n2: Active, connection refused; n3: Secret kube-system/x does not exist; " +
				"n4: nothing reported yet; n5: the node is not ready"},
		{name: "up over a lost path", nodes: 2, conf: config.Default(),
			sessions: map[string]*v1alpha1.BGPSessionStatus{"n1": session(up, ""), "n2": session(up, "BFD says down")},
			ready:    "1/2", reason: "NotEstablished", message: "1/2 nodes established; n2: Established, BFD says down"},
		{name: "one problem of many", nodes: 6, conf: config.Default(),
			sessions: map[string]*v1alpha1.BGPSessionStatus{
				"n1": session(v1alpha1.SessionIdle, ""), "n2": session(down, "x"), "n3": session(down, "x"),
				"n4": session(down, "x"), "n5": session(down, "x"), "n6": session(down, "x"),
			},
			ready: "0/6", reason: "NotEstablished", message: "0/6 nodes established; n2, n3, n4 and 2 more: Active, x; n1: Idle"},
		{name: "none selected", nodes: 2, selector: rackA, conf: config.Default(),
			ready: "0/0", reason: "NoNodeSelected", message: "nodeSelector selects no node"},
		{name: "off by mode", nodes: 1, conf: encap, ready: "0/1", reason: "BGPDisabled",
			message: "BGP is off: bgp.enabled is not true in the configuration, and mode is encap"},
		{name: "off", nodes: 1, conf: off, ready: "0/1", reason: "BGPDisabled",
			message: "BGP is off: bgp.enabled is false in the configuration"},
		{name: "bad selector", nodes: 1, conf: config.Default(), selector: &v1alpha1.NodeSelector{
			MatchExpressions: []v1alpha1.NodeSelectorRequirement{{Key: "a", Operator: "Equals"}}},
			ready: "0/0", reason: "Invalid", message: `nodeSelector: "Equals" is not a valid label selector operator`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var nodes []kube.Node
			for i := range test.nodes {
				name := "n" + strconv.Itoa(i+1)
				nodes = append(nodes, kube.Node{Node: routing.Node{Name: name}, Ready: name != test.notReady})
			}
			sessions := map[key]*v1alpha1.BGPSessionStatus{}
			for name, s := range test.sessions {
				sessions[key{node: name, peer: "tor"}] = s
			}
			peer := &v1alpha1.BGPPeer{
				ObjectMeta: metav1.ObjectMeta{Name: "tor", Generation: 3},
				Spec:       v1alpha1.BGPPeerSpec{NodeSelector: test.selector},
			}
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			setStatus(peer, nodes, sessions, test.conf, now)
			status := metav1.ConditionFalse
			if test.reason == "Established" {
				status = metav1.ConditionTrue
			}
			want := v1alpha1.BGPPeerStatus{Ready: test.ready, Conditions: []metav1.Condition{{
				Type: "Ready", Status: status, Reason: test.reason, Message: test.message,
				ObservedGeneration: 3, LastTransitionTime: metav1.NewTime(now),
			}}}
			if diff := cmp.Diff(want, peer.Status); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			setStatus(peer, nodes, sessions, test.conf, now.Add(time.Hour))
			if diff := cmp.Diff(want, peer.Status); diff != "" {
				t.Errorf("status an hour later (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPeerStatusOfNodes(t *testing.T) {
	nodes := []kube.Node{
		{Node: routing.Node{Name: "n1"}, Ready: true, Labels: map[string]string{"reflector": ""}},
		{Node: routing.Node{Name: "n2"}, Ready: true}, {Node: routing.Node{Name: "n3"}, Ready: true},
	}
	up := &v1alpha1.BGPSessionStatus{State: v1alpha1.SessionEstablished}
	down := &v1alpha1.BGPSessionStatus{State: v1alpha1.SessionActive, LastError: "x"}
	reflectors := &v1alpha1.NodeSelector{MatchExpressions: []v1alpha1.NodeSelectorRequirement{{Key: "reflector", Operator: "Exists"}}}
	for name, test := range map[string]struct {
		spec     v1alpha1.BGPPeerSpec
		sessions map[key]*v1alpha1.BGPSessionStatus
		ready    string
		message  string
	}{
		"mesh": {v1alpha1.BGPPeerSpec{Nodes: &v1alpha1.PeerNodes{}}, map[key]*v1alpha1.BGPSessionStatus{
			{"n1", "p", "n2"}: up, {"n2", "p", "n1"}: up, {"n1", "p", "n3"}: down, {"n2", "p", "n3"}: down,
		}, "2/6", "2/6 ends of sessions between nodes established; n1, n2: Active, x; n3: nothing reported yet"},
		"reflector": {v1alpha1.BGPPeerSpec{Nodes: &v1alpha1.PeerNodes{Selector: reflectors}}, map[key]*v1alpha1.BGPSessionStatus{
			{"n1", "p", "n2"}: up, {"n2", "p", "n1"}: up, {"n1", "p", "n3"}: up, {"n3", "p", "n1"}: up,
		}, "4/4", "4/4 ends of sessions between nodes established"},
		"nobody": {v1alpha1.BGPPeerSpec{NodeSelector: reflectors, Nodes: &v1alpha1.PeerNodes{Selector: reflectors}}, nil,
			"0/0", "nodeSelector and nodes.selector select no two nodes"},
		"bad selector": {v1alpha1.BGPPeerSpec{Nodes: &v1alpha1.PeerNodes{Selector: &v1alpha1.NodeSelector{
			MatchExpressions: []v1alpha1.NodeSelectorRequirement{{Key: "a", Operator: "Equals"}}}}}, nil,
			"0/0", `nodes.selector: "Equals" is not a valid label selector operator`},
	} {
		t.Run(name, func(t *testing.T) {
			peer := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: test.spec}
			setStatus(peer, nodes, test.sessions, config.Default(), time.Time{})
			if peer.Status.Ready != test.ready || peer.Status.Conditions[0].Message != test.message {
				t.Errorf("%s, %q; want %s, %q", peer.Status.Ready, peer.Status.Conditions[0].Message, test.ready, test.message)
			}
		})
	}
}

func TestWordsAreBounded(t *testing.T) {
	var problems []problem
	for i := range 7 {
		problems = append(problems, problem{text: strconv.Itoa(i), nodes: []string{"n"}})
	}
	want := "n: 0; n: 1; n: 2; n: 3; n: 4; and 2 other problems"
	if got := words(problems); got != want {
		t.Errorf("words = %q, want %q", got, want)
	}
}
