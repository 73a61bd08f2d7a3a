// SPDX-License-Identifier: Apache-2.0

// Gendoc writes the reference of the forwarding pipeline, docs/pipeline.md,
// from package pipeline: its tables and registers, and the flows of an example
// node.
package main
