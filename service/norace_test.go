// SPDX-License-Identifier: Apache-2.0

//go:build !race

package service_test

// defaultCases is how many random cases there are unless the flag says it.
const defaultCases = 300
