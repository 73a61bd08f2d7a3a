// SPDX-License-Identifier: Apache-2.0

// Package flow holds OpenFlow flows and groups as plain data, with their
// ovs-ofctl(8) text form and the way back. It has no side effects and is
// imported by everything that makes or sends flows.
package flow
