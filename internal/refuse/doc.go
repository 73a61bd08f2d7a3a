// SPDX-License-Identifier: Apache-2.0

// Package refuse answers what is sent to Services that have no endpoints, so
// that clients learn it at once and need not wait: a reset for TCP, port
// unreachable for everything else, from the address that was asked. The
// switch sends such packets to the agent from table Refuse.
//
// The agent wires it. Run answers one packet after the other; Stats may be
// called from any goroutine. What the switch sends is limited by Meter.
package refuse
