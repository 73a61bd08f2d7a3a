// SPDX-License-Identifier: Apache-2.0

// Package drift tells repairs from ordinary changes, and for how long what was
// repaired had been wrong. It is pure bookkeeping: the agent's loops say what was
// wanted and what an adapter had to write, watchers say when they noticed
// something, and each repair goes to one function, which counts it.
//
// Something written is a repair when what was wanted is what was in place before.
// The time runs from the first notice since then, else from the moment at which the
// run that repaired it began to look: what only the regular runs find was wrong
// for up to their period longer.
//
// A Tracker may be used from any goroutine.
package drift
