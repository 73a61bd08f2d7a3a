// SPDX-License-Identifier: Apache-2.0

// Package matrix checks who reaches whom in a cluster: Pod to Pod, Pod to node,
// node to Pod and Pod to an external client, in each family, on the same node,
// in the same rack and across racks. [Pairs] is pure; [Run] asks every source
// once, by the `probe check` that the caller runs there, many sources at a time;
// [Result] renders rows of a report and a grid for people. The demo and the
// end-to-end tests use it.
package matrix
