// SPDX-License-Identifier: Apache-2.0

// Package kubernetes says how the programs of a lab's Kubernetes cluster are
// run and configured: etcd, the API server, controller manager and scheduler on
// the control-plane host, containerd and kubelet on a node. It is pure; the
// package cluster runs what it says.
package kubernetes
