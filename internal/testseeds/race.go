// SPDX-License-Identifier: Apache-2.0

//go:build race

package testseeds

// race says that the race detector is there, which makes everything slow.
const race = true
