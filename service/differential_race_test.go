// SPDX-License-Identifier: Apache-2.0

//go:build race

package service_test

// mostEndpoints is how many TestDifferentialMany tries at most; the race detector
// makes it slow.
const mostEndpoints = 100
