// SPDX-License-Identifier: Apache-2.0

// Package pause holds a Pod's namespaces open: it waits for a signal to end and
// reaps the processes that the Pod's containers leave to it where they share
// its PID namespace.
package pause
