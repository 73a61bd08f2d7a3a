// SPDX-License-Identifier: Apache-2.0

// Package host makes the hosts of the lab: each is a set of namespaces
// (network, mount, PID, UTS, IPC, cgroup) around one init process of our own,
// which starts and supervises the programs of the host, reaps orphans, runs
// commands and opens connections on request, over a Unix socket. Killing the
// init kills everything in the host, because it is PID 1 of its PID namespace.
//
// The init is the calling program itself, executed again under another name:
// every program that starts hosts calls Main first thing in its main function
// (a test does so in TestMain).
//
// Start and Attach return a Host, which only holds the path of the socket and
// is safe for concurrent use. Cleanup needs no recorded state: it finds the
// hosts of a lab by the name of their init, so it also works after a kill at
// any point. Inside the init, one table guarded by one mutex owns all children.
package host
