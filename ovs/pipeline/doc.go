// SPDX-License-Identifier: Apache-2.0

// Package pipeline is the forwarding pipeline of the integration bridge: its
// tables and registers as one ordered literal, and pure functions from what a
// node has (a gateway, Pods, remote nodes) to flows. Package policy/flows builds
// the rules of policies with the tables and registers of this one.
//
// Everything between Pods is routed: a Pod resolves only its gateway, whose
// ARP and neighbour discovery the kernel answers behind the gateway port. The
// switch itself routes between local Pods and into tunnels; all else goes to
// the kernel by the gateway port. Pods cannot send from addresses that are not
// theirs, nor speak as routers or DHCP servers.
//
// Each function's flows belong to one owner, named by the Owner functions, and
// no two owners share a flow (same table, priority and match) as long as their
// addresses and ports differ. The agent hands them to package openflow per
// owner. Nothing here has state or side effects.
//
// docs/pipeline.md is generated from this package.
package pipeline

//go:generate go run github.com/waymark-net/waymark/ovs/pipeline/gendoc -o ../../docs/pipeline.md
