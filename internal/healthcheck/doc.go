// SPDX-License-Identifier: Apache-2.0

// Package healthcheck answers load balancers that ask where to send traffic:
// at the healthCheckNodePort of each Service with externalTrafficPolicy Local,
// whether this node has endpoints of it, and at one port of the node, whether it
// serves Services at all. Answers are those of kube-proxy, which load balancers
// know.
//
// The agent owns one Server. One goroutine calls Set and SetNode; Run waits on
// another for the end and closes all. Requests are answered on goroutines of their own.
package healthcheck
