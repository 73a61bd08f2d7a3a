// SPDX-License-Identifier: Apache-2.0

// Package wire turns the values of package policy into the protobuf of the
// policy stream and back.
//
// What comes in is judged strictly. A policy that is not understood whole, as
// one of a newer controller, is kept in the direction of denying and reported
// as a Problem; anything else that is wrong refuses the update that it is in.
// Nothing here has side effects; policy/stream is the caller.
package wire
