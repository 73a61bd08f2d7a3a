// SPDX-License-Identifier: Apache-2.0

// Package baseline makes of a bare lab what the data path is compared with. The
// nodes get two Pods each, as network namespaces, and IPv4 routes to the Pods of
// the others, static on nodes and routers:
//
//   - [OpenVSwitch] is the limit of the userspace datapath: Pods on a bridge
//     with nothing but one NORMAL flow, the network interface on another, and the
//     kernel routing between them. Offloads, sysctls and the guard that keeps the
//     kernel from hearing on the network interface what the switch delivers are
//     those of the product.
//   - [LinuxBridge] is what the plugin bridge makes: Pods on a bridge of the
//     kernel, which routes to the network interface.
//
// The functions may be called once for a lab, by one goroutine.
package baseline
