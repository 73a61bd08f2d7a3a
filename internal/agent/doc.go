// SPDX-License-Identifier: Apache-2.0

// Package agent wires the node's agent together. It is the only place that
// knows both the domain packages and the adapters.
//
// What the node should be follows from a World: the cluster's objects, the
// configuration, the uplink and the learned routes. MakePlan turns a World into
// a Plan, a pure function. One loop (internal/reconcile) looks at the world,
// makes the plan, and carries it out adapter by adapter; an adapter that fails
// does not stop the others. Watchers and informers only mark that loop dirty.
//
// A loop of its own follows the cluster's Services, one owner of flows each. It
// hands their addresses to the node loop, which announces them (servedAddresses),
// unless the node is about to leave (drainer).
//
// Beside the loop run the CNI server, which adds and removes Pods through
// podSwitch, the client of the routing speaker, the OVSDB client and the OpenFlow
// target; each owns its own state on its own goroutine.
//
// Nothing that must outlive the agent is in it: the switch forwards, the kernel
// routes, and the routing speaker, a process of its own (cmd/waymark-speaker), keeps
// the sessions with routers. An agent that starts finds all of that and changes what
// is different.
package agent
