// SPDX-License-Identifier: Apache-2.0

// Package hostfw keeps the rules that Waymark needs in the packet filter of
// the node: source NAT of Pods that talk to the outside, acceptance of Pod
// traffic where the host drops what it forwards, and the drop of what the kernel
// hears a second time on a NIC that belongs to the userspace switch. What goes
// to Pods keeps its source, also when it was DNATed (hostPort): policies judge
// by it, and the switch sends answers back to the kernel.
//
// One [Ruleset] says what is wanted; two renderers write it:
//
//   - nftables: the table "inet waymark", all of it and nothing else, replaced
//     in one transaction;
//   - iptables and ip6tables: chains WAYMARK-* and one jump to each from the
//     front of the chain of the same hook, one iptables-restore a table.
//
// # Forwarding on hosts that drop
//
// An accept verdict of nftables holds for its own base chain only: no rule of
// our table saves a packet from another table's drop. Docker, ufw and others
// drop in the FORWARD chain of iptables, whose rules end in a chain that can be
// written to. So, with either renderer, when FORWARD of iptables drops or
// rejects by default (policy, or a rule without condition), a jump to
// WAYMARK-FORWARD is put at its front, which accepts what comes from or goes
// to the gateway interface. Where FORWARD accepts, iptables is not touched by
// the nftables renderer. A foreign nftables table that drops (firewalld) has
// to be told by its owner: the gateway interface belongs into a trusted zone.
//
// # Services
//
// What is sent to an address of the node itself does not come by a route:
// [ServiceFirewall] leads NodePorts, and external addresses that the node has,
// into the switch by destination NAT, in prerouting and output, and leaves
// sources and ports alone. [ServiceRules] say which. They are kept apart from
// the rest since they change often: in the table "inet waymark-services" or in
// chains of the table nat of iptables. The way there and back goes through the
// gateway interface, which is accepted and not masqueraded as all of its
// traffic. [KubeProxyRules] tells whether kube-proxy does the same work.
//
// # How it is called
//
// [Firewall.Apply] and [ServiceFirewall.Apply] are called by one goroutine each,
// when the rules change and from time to time: they read what is there, and write
// only if that differs. Rules are recognised by a hash of their text in their
// comment, sets by their elements; so a rule removed, added or reordered by hand
// is found. Where only elements differ, other than intervals, only these are
// written. Rules that are wanted no more are taken away by an Apply without them.
package hostfw
