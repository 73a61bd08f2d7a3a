// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/routing"
)

// Bounds of a message: it says what is wrong, not everything that is wrong.
const (
	maxNodesNamed = 3
	maxProblems   = 5
)

// writePeers makes the status of every BGPPeer sum up its sessions. Without a
// good configuration nothing is known of whether BGP is to run, so that the
// sessions alone speak.
func (c *Controller) writePeers(ctx context.Context, s *kube.Snapshot, conf *config.Config) error {
	sessions := sessionsByNode(s)
	var errs []error
	for i := range s.PeerObjects {
		peer := s.PeerObjects[i].DeepCopy()
		before := peer.Status.DeepCopy()
		setStatus(peer, s.Nodes, sessions, conf, c.now())
		if equality.Semantic.DeepEqual(*before, peer.Status) {
			continue
		}
		_, err := c.params.Clients.Peers.UpdateStatus(ctx, peer, metav1.UpdateOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case apierrors.IsConflict(err):
			// The newer version is on its way here and marks the loop.
			klog.FromContext(ctx).V(2).Info("BGPPeer changed meanwhile", "peer", peer.Name)
		case err != nil:
			errs = append(errs, fmt.Errorf("write status of BGPPeer %s: %w", peer.Name, err))
		}
	}
	return errors.Join(errs...)
}

// deleteSessions deletes the BGPSessions of nodes that are gone. Their owner
// reference does so too, unless the cluster's garbage collector is away.
func (c *Controller) deleteSessions(ctx context.Context, s *kube.Snapshot) error {
	var errs []error
	for i := range s.Sessions {
		session := &s.Sessions[i]
		if s.Node(session.Status.Node) != nil {
			continue
		}
		err := c.params.Clients.Sessions.Delete(ctx, session.Name, metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &session.UID},
		})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("delete BGPSession %s of a node that is gone: %w", session.Name, err))
			continue
		}
		klog.FromContext(ctx).Info("BGPSession of a node that is gone deleted", "session", session.Name)
	}
	return errors.Join(errs...)
}

// key identifies a session; other is the node that it is with, if it is one.
type key struct{ node, peer, other string }

func sessionsByNode(s *kube.Snapshot) map[key]*v1alpha1.BGPSessionStatus {
	byNode := make(map[key]*v1alpha1.BGPSessionStatus, len(s.Sessions))
	for i := range s.Sessions {
		status := &s.Sessions[i].Status
		byNode[key{status.Node, status.Peer, status.PeerNode}] = status
	}
	return byNode
}

// setStatus makes a BGPPeer's status say how many of the selected nodes have an
// established session, and what is wrong with the others.
func setStatus(peer *v1alpha1.BGPPeer, nodes []kube.Node, sessions map[key]*v1alpha1.BGPSessionStatus, conf *config.Config, now time.Time) {
	ready := metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse,
		ObservedGeneration: peer.Generation, LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
	}
	tally, counted, none := count, "nodes", "nodeSelector selects no node"
	if peer.Spec.Nodes != nil {
		tally, counted, none = countPairs, "ends of sessions between nodes", "nodeSelector and nodes.selector select no two nodes"
	}
	up, all, wrong, err := tally(peer, nodes, sessions)
	peer.Status.Ready = fmt.Sprintf("%d/%d", up, all)
	switch {
	case err != nil:
		ready.Reason, ready.Message = kube.ReasonInvalid, err.Error()
	case conf != nil && !conf.BGP.Enabled:
		ready.Reason, ready.Message = "BGPDisabled", bgpDisabled(conf)
	case all == 0:
		ready.Reason, ready.Message = "NoNodeSelected", none
	case up < all:
		ready.Reason = "NotEstablished"
		ready.Message = fmt.Sprintf("%d/%d %s established; %s", up, all, counted, wrong)
	default:
		ready.Status, ready.Reason = metav1.ConditionTrue, "Established"
		ready.Message = fmt.Sprintf("%d/%d %s established", up, all, counted)
	}
	meta.SetStatusCondition(&peer.Status.Conditions, ready)
}

func bgpDisabled(conf *config.Config) string {
	text := "BGP is off: bgp.enabled is false in the configuration"
	if conf.Mode == routing.ModeEncap {
		text = "BGP is off: bgp.enabled is not true in the configuration, and mode is encap"
	}
	return text
}

// count compares a peer's nodes with their sessions. wrong says in words which
// nodes have none and why.
func count(peer *v1alpha1.BGPPeer, nodes []kube.Node, sessions map[key]*v1alpha1.BGPSessionStatus) (up, all int, wrong string, err error) {
	var problems []problem
	for i := range nodes {
		selected, err := kube.Selects(peer.Spec.NodeSelector, nodes[i].Labels)
		if err != nil {
			return 0, 0, "", err
		}
		if !selected {
			continue
		}
		all++
		text := trouble(&nodes[i], sessions[key{node: nodes[i].Name, peer: peer.Name}])
		if text == "" {
			up++
			continue
		}
		problems = note(problems, nodes[i].Name, text)
	}
	return up, all, words(problems), nil
}

// countPairs is count for sessions between nodes, each of which has two ends.
func countPairs(peer *v1alpha1.BGPPeer, nodes []kube.Node, sessions map[key]*v1alpha1.BGPSessionStatus) (up, all int, wrong string, err error) {
	pairs, err := kube.PairNodes(&peer.Spec, nodes)
	if err != nil {
		return 0, 0, "", err
	}
	var problems []problem
	for i := range nodes {
		said := map[string]bool{} // of this node
		for k := range nodes {
			if !pairs.Linked(i, k) {
				continue
			}
			all++
			text := trouble(&nodes[i], sessions[key{nodes[i].Name, peer.Name, nodes[k].Name}])
			if text == "" {
				up++
			} else if !said[text] {
				said[text] = true
				problems = note(problems, nodes[i].Name, text)
			}
		}
	}
	return up, all, words(problems), nil
}

// note adds a node that has a problem.
func note(problems []problem, node, text string) []problem {
	at := slices.IndexFunc(problems, func(p problem) bool { return p.text == text })
	if at < 0 {
		at = len(problems)
		problems = append(problems, problem{text: text})
	}
	problems[at].nodes = append(problems[at].nodes, node)
	return problems
}

// problem is one thing that is wrong on some nodes.
type problem struct {
	text  string
	nodes []string
}

// trouble says what is wrong with a node's session, empty if nothing is.
func trouble(node *kube.Node, session *v1alpha1.BGPSessionStatus) string {
	switch {
	case !node.Ready:
		// Whatever the session says was said before the node went away.
		return "the node is not ready"
	case session == nil:
		return "nothing reported yet"
	case session.State == v1alpha1.SessionEstablished && session.LastError == "":
		return ""
	case session.State == v1alpha1.SessionInvalid:
		return session.LastError
	case session.LastError == "":
		return string(session.State)
	}
	return string(session.State) + ", " + session.LastError
}

// words renders problems, those of the most nodes first.
func words(problems []problem) string {
	slices.SortStableFunc(problems, func(a, b problem) int { return len(b.nodes) - len(a.nodes) })
	var parts []string
	for i, p := range problems {
		if i == maxProblems {
			parts = append(parts, fmt.Sprintf("and %d other problems", len(problems)-i))
			break
		}
		names := p.nodes
		more := ""
		if len(names) > maxNodesNamed {
			names, more = names[:maxNodesNamed], fmt.Sprintf(" and %d more", len(names)-maxNodesNamed)
		}
		parts = append(parts, fmt.Sprintf("%s%s: %s", strings.Join(names, ", "), more, p.text))
	}
	return strings.Join(parts, "; ")
}
