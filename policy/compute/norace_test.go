// SPDX-License-Identifier: Apache-2.0

//go:build !race

package compute_test

// defaultCases is how many random cases there are unless the flag says it.
const defaultCases = 10000
