// SPDX-License-Identifier: Apache-2.0

// Package testseeds runs cases that tests make of random numbers, one a seed, on
// all processors. Tests call it from their own goroutine; it has the flags -cases
// and -seed.
package testseeds
