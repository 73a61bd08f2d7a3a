// SPDX-License-Identifier: Apache-2.0

package flow

// Change is a change of some of an owner's flows. The others stay as they are.
type Change struct {
	Owner string
	// Set are flows to add, or to put in the place of those with the same Key.
	Set []Flow
	// Remove are flows to take away. A key that nobody has is no error, so that
	// a change can be tried again.
	Remove []Key
}
