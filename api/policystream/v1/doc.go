// SPDX-License-Identifier: Apache-2.0

// Package policystreamv1 is the protobuf of the policy stream, generated from
// policy.proto by tools/generate.sh. Only policy/stream and its parts use it.
package policystreamv1
