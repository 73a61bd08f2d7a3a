// SPDX-License-Identifier: Apache-2.0

// Package rollout is the order in which a cluster changes how traffic travels
// between its nodes, so that no packet is sent to where it is not accepted: make
// before break.
//
// # Phases
//
// In Prepare every node accepts what comes by the old path and by the new one, and
// lowers what its Pods send to what fits the narrower one. In Flip it sends by the
// new path, to each node that accepts it. In Finish it removes the old path: nobody
// sends by it any more. When the rollout is Complete, Pods send what fits the new
// path. A phase begins when every node has carried out the one before. A node that
// does not holds the rollout there, and no traffic.
//
// # Use
//
// The controller calls Next to learn whether a configuration asks for another
// rollout, and Advance to learn which phase comes next and what is waited for. Agents
// ask a Rollout which paths to accept and which to send by. All is pure; the objects
// and who writes them are in internal/kube, internal/controller and internal/agent.
package rollout
