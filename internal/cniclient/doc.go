// SPDX-License-Identifier: Apache-2.0

// Package cniclient is the CNI plugin without its main function: it hands a
// runtime's request to the agent over a Unix socket and prints the answer. It
// decides nothing and changes nothing on the node, so that there is one place,
// the agent, that has to be right.
//
// When the agent cannot be reached, ADD, CHECK and GC fail with code 11 (try
// again later) and STATUS with 50 (not available). DEL fails too, although the
// specification asks plugins to be lenient there: the runtime then keeps the
// namespace and comes back, and a Pod that counts as deleted is never still
// attached. A restart of the agent is waited for, so that it goes unnoticed.
//
// It is linked into a program that runs for milliseconds, thousands of times:
// it imports little.
package cniclient
