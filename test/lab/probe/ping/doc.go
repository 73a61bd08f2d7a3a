// SPDX-License-Identifier: Apache-2.0

// Package ping sends echo requests at a steady interval, down to a millisecond,
// until it is told to end, and reports what got lost. It tells an outage of the
// network from a pause of the machine that measures it: losses are counted by
// the time at which requests were sent. `probe ping` runs one [Run] a target;
// tests of failures and upgrades read the [Report].
//
// Run sends in its own goroutine and reads in a second one, which ends with it.
package ping
