// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
)

// ConditionImport of a BGPSession is False while the router sends something
// that the import filter refuses or that is more than maxPrefixes.
const ConditionImport = "ImportAccepted"

// Report is what a node has to say of its BGP sessions.
type Report struct {
	Node     *Node
	Sessions []routing.SessionStatus
	// Problems are the peers that have no session because of the problem.
	Problems []PeerProblem
}

// sessions renders the report as objects, by name. have are the objects as
// they stand: transition times are kept where a condition did not change.
func (r Report) sessions(have map[string]*v1alpha1.BGPSession, now time.Time) []*v1alpha1.BGPSession {
	var out []*v1alpha1.BGPSession
	for _, s := range r.Sessions {
		out = append(out, r.object(s.Peer, have, sessionStatus(s), []metav1.Condition{readyCondition(s), importCondition(s)}, now))
	}
	for _, p := range r.Problems {
		status := v1alpha1.BGPSessionStatus{State: v1alpha1.SessionInvalid, Address: addressText(p.Address), ASN: int64(p.ASN), LastError: p.Message}
		if old := have[sessionName(r.Node.Name, p.Peer)]; old != nil && old.Status.State == v1alpha1.SessionInvalid {
			status.Since = old.Status.Since
		} else {
			status.Since = &metav1.Time{Time: now.Truncate(time.Second)}
		}
		ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: p.Reason, Message: p.Message}
		out = append(out, r.object(p.Peer, have, status, []metav1.Condition{ready}, now))
	}
	slices.SortFunc(out, func(a, b *v1alpha1.BGPSession) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// sessionName is NODE.PEER or, where the peer is a node, NODE.PEER.OTHER.
func sessionName(node, peer string) string { return node + "." + peer }

func (r Report) object(peer string, have map[string]*v1alpha1.BGPSession, status v1alpha1.BGPSessionStatus, conditions []metav1.Condition, now time.Time) *v1alpha1.BGPSession {
	name := sessionName(r.Node.Name, peer)
	session := &v1alpha1.BGPSession{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "v1", Kind: "Node", Name: r.Node.Name, UID: types.UID(r.Node.UID)},
			},
		},
		Status: status,
	}
	session.Status.Node = r.Node.Name
	session.Status.Peer, session.Status.PeerNode = splitPeerName(peer)
	var before []metav1.Condition
	if old := have[name]; old != nil {
		session.ResourceVersion = old.ResourceVersion
		before = old.Status.Conditions
	}
	for _, c := range conditions {
		c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
		if old := meta.FindStatusCondition(before, c.Type); old != nil && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		session.Status.Conditions = append(session.Status.Conditions, c)
	}
	return session
}

func sessionStatus(s routing.SessionStatus) v1alpha1.BGPSessionStatus {
	status := v1alpha1.BGPSessionStatus{
		Address: addressText(s.Address), ASN: int64(s.ASN), State: v1alpha1.SessionState(s.State),
	}
	if !s.Since.IsZero() {
		status.Since = &metav1.Time{Time: s.Since.Truncate(time.Second)}
	}
	for _, f := range s.Families {
		status.Received += int64(f.Received)
		status.Accepted += int64(f.Accepted)
		status.Advertised += int64(f.Advertised)
	}
	switch {
	case s.State != routing.SessionEstablished:
		status.LastError = s.LastError
	case suspended(s):
		status.LastError = suspendedWords
	}
	status.BFD = bfdStatus(s.BFD)
	return status
}

// suspendedWords are said of an established session.
const suspendedWords = "the router's routes are not used: BFD says that the path to it is down"

func suspended(s routing.SessionStatus) bool { return s.BFD != nil && s.BFD.Suspended }

func bfdStatus(b *routing.BFDStatus) *v1alpha1.BFDStatus {
	if b == nil {
		return nil
	}
	out := &v1alpha1.BFDStatus{
		State: v1alpha1.BFDState(b.State), RemoteState: v1alpha1.BFDState(b.RemoteState),
		Diagnostic: b.Diagnostic, RoutesSuspended: b.Suspended, Error: b.Error,
	}
	if !b.Since.IsZero() {
		out.Since = &metav1.Time{Time: b.Since.Truncate(time.Second)}
	}
	if b.Interval > 0 {
		out.TransmitInterval = b.Interval.String()
	}
	if b.DetectionTime > 0 {
		out.DetectionTime = b.DetectionTime.String()
	}
	return out
}

func readyCondition(s routing.SessionStatus) metav1.Condition {
	if s.State == routing.SessionEstablished && suspended(s) {
		return metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "BFDDown", Message: suspendedWords}
	}
	if s.State == routing.SessionEstablished {
		return metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Established", Message: established(s)}
	}
	message := s.LastError
	if message == "" {
		message = "the session is not up yet"
	}
	return metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: string(s.State), Message: message}
}

// established says which families are exchanged, and which the router refused.
func established(s routing.SessionStatus) string {
	var yes, no []string
	for _, f := range s.Families {
		if f.Negotiated {
			yes = append(yes, f.Family.String())
		} else {
			no = append(no, f.Family.String())
		}
	}
	text := "the session carries " + strings.Join(yes, " and ")
	if len(yes) == 0 {
		text = "the session carries no family"
	}
	if len(no) > 0 {
		text += "; the router does not offer " + strings.Join(no, " and ")
	}
	if s.LastError != "" {
		text += fmt.Sprintf("; last error at %s: %s", s.LastErrorAt.UTC().Format(time.RFC3339), s.LastError)
	}
	return text
}

// importCondition says what of the router's routes is left out, and why.
func importCondition(s routing.SessionStatus) metav1.Condition {
	c := metav1.Condition{Type: ConditionImport, Status: metav1.ConditionTrue, Reason: "AllAccepted", Message: "every route of the router is accepted"}
	left := slices.Clone(s.Warnings)
	for _, f := range s.Families {
		reasons := make([]routing.FilterReason, 0, len(f.Filtered))
		for reason, n := range f.Filtered {
			// A fabric tells every node which addresses of Services the others announce.
			if n > 0 && reason != routing.FilterService {
				reasons = append(reasons, reason)
			}
		}
		slices.Sort(reasons)
		for _, reason := range reasons {
			left = append(left, fmt.Sprintf("%s: %d left out (%s)", f.Family, f.Filtered[reason], reason))
			c.Reason = string(reason)
		}
	}
	if len(left) == 0 {
		return c
	}
	c.Status, c.Message = metav1.ConditionFalse, strings.Join(left, "; ")
	if c.Reason == "AllAccepted" {
		c.Reason = "Warning"
	}
	return c
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
