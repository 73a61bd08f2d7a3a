// SPDX-License-Identifier: Apache-2.0

// Package random makes up Services, changes of them, and packets that are aimed
// at them, for tests that hold the real thing against package naive. There are
// few addresses and ports to choose from, so that things meet.
//
// A [Generator] is used by one goroutine; the same seed gives the same things.
package random
