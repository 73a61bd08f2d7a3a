// SPDX-License-Identifier: Apache-2.0

// Package service turns Services and their endpoints into flows and groups of
// the pipeline, so that Pods reach ClusterIPs without any help of the kernel.
//
// A Compiler is told what changes and says what the switch should hold, by
// owner: one owner a Service, so that the refusal of one is nobody else's
// concern. It has no side effects, is used by one goroutine (the Service loop
// of the agent), and gives the same flows and groups for the same Services
// whatever came before: after a restart there is nothing to send.
//
// A new connection meets a select group, whose buckets translate it to an
// endpoint and record that (see the function Endpoint of package pipeline).
// Everything that follows is the connection tracker's: no change of a Service
// disturbs a connection whose endpoint stays.
package service
