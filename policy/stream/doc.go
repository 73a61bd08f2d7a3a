// SPDX-License-Identifier: Apache-2.0

// Package stream carries policy from the controllers to the nodes' agents, over
// gRPC: each agent gets what its node enforces and nothing else, and after a
// reconnect to any replica only what differs from what it has.
//
// On the controller's side the Hub stands between the computation and the
// Server. One goroutine of the caller runs the computation within Hub.Update.
// For each subscriber the hub keeps what it has not been sent yet: a set of
// objects with their newest contents, never a queue, so that an agent that is
// slow or stuck costs memory in proportion to the objects and delays nobody.
// Each subscriber's own goroutine (of gRPC) takes the whole set when the
// connection has room for it, as one consistent update.
//
// On a node the Client runs: it finds a controller, applies updates in order
// through its Consumer, and keeps the State in memory and on disk (Disk). All of
// it happens on the goroutine of Client.follow, except that snapshots are written
// on another one.
//
// What the Consumer is given was written to a log before, without fsync: it
// outlives the agent's process, however that ends, so that the agent starts again
// with the policy that is in the switch, also for Pods and policies that came in
// its last moment, and needs no controller for it. It does not always outlive the
// machine, which need not be: then the switch is empty and all Pods start anew,
// and what is lost only makes policy older until a controller answers. If the log
// cannot be written (a full disk), policy is enforced all the same and the agent
// says so in its own log.
//
// Package stream/ca has the certificates, stream/wire the protobuf. Nothing
// here knows Kubernetes: what comes from it (tokens, endpoints, the CA's
// bundle) comes through interfaces that internal/kube implements.
package stream
