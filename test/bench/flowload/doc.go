// SPDX-License-Identifier: Apache-2.0

// Package flowload makes the policies of a node that `make bench-flows` puts into
// a switch: as many addresses and rules as wanted, in one shape for every size.
// A [Load] has no state; everything here is pure.
package flowload
