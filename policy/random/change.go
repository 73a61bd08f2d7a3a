// SPDX-License-Identifier: Apache-2.0

package random

import (
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/naive"
)

// Change is what happened to one object: one of the fields is set.
type Change struct {
	Pod           *policy.PodIntent       `json:",omitempty"`
	GonePod       *policy.PodKey          `json:",omitempty"`
	Namespace     *policy.NamespaceIntent `json:",omitempty"`
	GoneNamespace string                  `json:",omitempty"`
	Node          *policy.NodeIntent      `json:",omitempty"`
	GoneNode      string                  `json:",omitempty"`
	Policy        *policy.PolicyIntent    `json:",omitempty"`
	GonePolicy    *policy.Key             `json:",omitempty"`
}

// Step are changes after which everything must hold.
type Step []Change

// Index is what changes are told to, such as a *compute.Index.
type Index interface {
	PodIndex
	PolicyIndex
}

// PodIndex is what changes of Pods and where they are, are told to.
type PodIndex interface {
	UpsertPod(*policy.PodIntent)
	DeletePod(policy.PodKey)
	UpsertNode(*policy.NodeIntent)
	DeleteNode(string)
}

// PolicyIndex is what changes of policies and namespaces are told to.
type PolicyIndex interface {
	UpsertNamespace(*policy.NamespaceIntent)
	DeleteNamespace(string)
	UpsertPolicy(*policy.PolicyIntent)
	DeletePolicy(policy.Key)
}

// Tell tells an index of the change.
func (c Change) Tell(x Index) {
	switch {
	case c.Pod != nil:
		x.UpsertPod(c.Pod)
	case c.GonePod != nil:
		x.DeletePod(*c.GonePod)
	case c.Namespace != nil:
		x.UpsertNamespace(c.Namespace)
	case c.GoneNamespace != "":
		x.DeleteNamespace(c.GoneNamespace)
	case c.Node != nil:
		x.UpsertNode(c.Node)
	case c.GoneNode != "":
		x.DeleteNode(c.GoneNode)
	case c.Policy != nil:
		x.UpsertPolicy(c.Policy)
	case c.GonePolicy != nil:
		x.DeletePolicy(*c.GonePolicy)
	}
}

// Apply makes the change in a cluster.
func (c Change) Apply(cluster *naive.Cluster) {
	switch {
	case c.Pod != nil:
		cluster.Pods[c.Pod.Key] = *c.Pod
	case c.GonePod != nil:
		delete(cluster.Pods, *c.GonePod)
	case c.Namespace != nil:
		cluster.Namespaces[c.Namespace.Name] = *c.Namespace
	case c.GoneNamespace != "":
		delete(cluster.Namespaces, c.GoneNamespace)
	case c.Node != nil:
		cluster.Nodes[c.Node.Name] = *c.Node
	case c.GoneNode != "":
		delete(cluster.Nodes, c.GoneNode)
	case c.Policy != nil:
		cluster.Policies[c.Policy.Key] = *c.Policy
	case c.GonePolicy != nil:
		delete(cluster.Policies, *c.GonePolicy)
	}
}

// Contents returns the changes that make a cluster out of nothing, in no order.
func Contents(cluster *naive.Cluster) Step {
	var step Step
	for _, p := range cluster.Pods {
		step = append(step, Change{Pod: &p})
	}
	for _, n := range cluster.Namespaces {
		step = append(step, Change{Namespace: &n})
	}
	for _, n := range cluster.Nodes {
		step = append(step, Change{Node: &n})
	}
	for _, p := range cluster.Policies {
		step = append(step, Change{Policy: &p})
	}
	return step
}

// Removal returns the changes that take everything out of a cluster.
func Removal(cluster *naive.Cluster) Step {
	var step Step
	for key := range cluster.Pods {
		step = append(step, Change{GonePod: &key})
	}
	for name := range cluster.Namespaces {
		step = append(step, Change{GoneNamespace: name})
	}
	for name := range cluster.Nodes {
		step = append(step, Change{GoneNode: name})
	}
	for key := range cluster.Policies {
		step = append(step, Change{GonePolicy: &key})
	}
	return step
}
