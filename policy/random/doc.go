// SPDX-License-Identifier: Apache-2.0

// Package random makes up clusters, policies and how they change, for tests that
// hold an implementation of network policy against package naive. The same seed
// gives the same. Everything is small and happens often: few labels and
// addresses, so that selectors meet Pods and Pods meet each other's addresses.
//
// A [Generator] belongs to one goroutine.
package random
