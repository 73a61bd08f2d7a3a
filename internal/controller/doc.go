// SPDX-License-Identifier: Apache-2.0

// Package controller is what runs once for the cluster: it computes what policies
// every node enforces and serves that to the agents; it judges the
// configuration document and says on its ConfigMap what is wrong, sums up the
// sessions of all nodes in the status of each BGPPeer, and deletes the
// BGPSessions of nodes that are gone. No node needs it to forward.
//
// It also serves the policy stream (policy/stream) to the agents: every replica
// does, whoever leads.
//
// Every replica watches and judges, so that its metrics are true; only the one
// that holds the Lease waymark-controller writes. One loop (internal/reconcile)
// does both on one goroutine: it compares a Snapshot with itself, without a
// memory beyond what was said on the ConfigMap.
package controller
