// SPDX-License-Identifier: Apache-2.0

// Package cniserver is the agent's side of CNI (specification 1.1.0): ADD, DEL,
// CHECK, GC and STATUS, asked for by the waymark-cni plugin over a Unix socket.
//
// An attachment is one interface of one container. It has four parts: addresses
// (ipam), a veth pair (internal/podlink), a record (a small file in StateDir)
// and a port with its flows in the switch. The record is the truth: ADD writes
// it when addresses and veth exist and before the switch is told; DEL removes it
// first and gives the addresses back last. So whenever the agent is killed,
//
//   - a part without a record is garbage, and
//   - a record whose veth and namespace are both gone is garbage,
//
// and Reconcile collects both. It also brings back, from the record, what
// somebody took away under a living Pod: its port, its veth, its addresses, its
// MTU. A record that was lost is written again from a port whose Pod lives. The
// records belong on a file system that ends with the machine, as namespaces do.
//
// ADD waits first until the Pod's policies are known, before it takes one of the
// places or a lock, so that Pods that wait for a controller hold nobody up.
//
// Work on one attachment is done by one goroutine at a time, in the order of
// arrival; different attachments proceed at once up to a limit.
//
// The agent wires it: it implements Switch, gives Settings, runs Run in a
// goroutine, and calls Reconcile at its start, after every reconnect to the
// switch, when Settings changed, and from time to time.
// Reconcile may run while requests are served.
package cniserver
