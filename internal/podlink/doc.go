// SPDX-License-Identifier: Apache-2.0

// Package podlink makes, checks and removes the veth pair between a Pod's
// network namespace and the switch, and configures the Pod's end: host
// addresses (/32, /128), a link route to the gateway, a default route through
// it, a permanent neighbour for it. It is an adapter: the only place that
// touches netlink and sysctls of Pods, and it knows nothing of CNI, Kubernetes
// or Open vSwitch.
//
// The host's end is only the switch's: the kernel's own IP stack must not
// answer or originate anything there. With the userspace datapath the kernel
// sees every frame that the switch reads, so there IPv6 is off, ARP is
// unanswered and a strict reverse-path filter drops what arrives.
//
// internal/cniserver calls it, from any number of goroutines at once; there is
// no state but the kernel's.
package podlink
