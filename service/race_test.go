// SPDX-License-Identifier: Apache-2.0

//go:build race

package service_test

// The race detector makes everything slow, and there are no goroutines to watch.
const defaultCases = 60
