// SPDX-License-Identifier: Apache-2.0

// Package kube owns what Waymark reads from and writes to the Kubernetes API.
//
// Reading: a Watcher runs informers for nodes, the configuration document,
// BGPPeers, BGPAdvertisements, the Secrets that the peers name and, for the
// controller, BGPSessions. Informer handlers only mark its loop dirty; the
// loop's one goroutine parses all objects into an immutable Snapshot of our
// own types and then calls OnChange. Whoever wants the newest state calls
// Watcher.Snapshot, from any goroutine, and asks the Snapshot for values of
// package routing: Snapshot.Peers, Snapshot.Advertisements, Snapshot.Nodes.
// An object that cannot be used becomes a Problem in words about that object
// and never stands in the way of another.
//
// A ServiceWatcher runs informers for Services and EndpointSlices, for the agent.
// It tells the names of the Services that changed and merges the slices of one
// when it is asked for it, on the goroutine of who asks. ServiceEvents write
// what is wrong with Services into Events, on one loop of their own; of what all
// nodes see alike one node speaks.
//
// Writing: NodeWriter patches node conditions, SessionWriter keeps the
// BGPSessions of one node, PathWriter its NodePaths, Recorder writes Events. Each compares first and
// writes differences only, can be called again after an error, and is called
// from one goroutine at a time.
//
// For the policy stream: AuthorityStore keeps the controllers' CA in a Secret
// and publishes it, TokenReviewer judges agents' tokens, ControllerFinder knows
// where controllers are and which CA they have.
//
// The agent and the controller are its callers.
package kube
