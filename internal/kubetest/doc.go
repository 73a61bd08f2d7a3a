// SPDX-License-Identifier: Apache-2.0

// Package kubetest runs a real etcd and kube-apiserver for integration tests.
//
// Both programs listen on the loopback of the test's own network namespace and
// end with its PID namespace. There are no nodes and no controllers; what a
// test creates stays as it is.
package kubetest
