// SPDX-License-Identifier: Apache-2.0

// Package specs says what came of the specs of an upstream suite: it reads what
// Ginkgo and Go tests report, and writes it for people, programs and documents.
// The package suite calls it. It has no state.
package specs
