// SPDX-License-Identifier: Apache-2.0

// Package testgolden compares what tests make with what was kept of it. Tests
// call it from their own goroutine.
package testgolden
