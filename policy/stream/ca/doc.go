// SPDX-License-Identifier: Apache-2.0

// Package ca is the certificate authority of the policy stream, without a
// place: what it consists of, when it changes, and what it signs.
//
// An Authority is a value. All replicas of the controller share one (a Secret,
// through internal/kube); each calls Advance now and then and stores what it
// returns, if nobody else did. The certificates to trust, Bundle, are published
// to the agents. A new CA is in the bundle long before it signs, and an old one
// stays in it until it ends, so that no agent meets a certificate that it
// cannot judge.
//
// A Signer makes a replica's own serving certificate from the Authority that it
// was last given; they live a day and only in memory.
//
// The clock is the caller's. A clock that is wrong by minutes does no harm, as
// certificates start before the time at which they are made.
package ca
