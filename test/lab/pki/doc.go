// SPDX-License-Identifier: Apache-2.0

// Package pki makes the certificates of a lab's Kubernetes cluster: one
// authority, server and client certificates, and the key that signs
// ServiceAccount tokens. It writes no file. An Authority can be written to PEM
// and read again, so that a node can join a running lab.
package pki
