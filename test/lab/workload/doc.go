// SPDX-License-Identifier: Apache-2.0

// Package workload puts probes everywhere in a lab: Pods on every node, and
// servers on the nodes themselves and on the client, so that the connectivity
// matrix has ends to ask, and a Service with a name in front of some Pods. The demo and the end-to-end tests use it.
package workload
