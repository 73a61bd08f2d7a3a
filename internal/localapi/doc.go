// SPDX-License-Identifier: Apache-2.0

// Package localapi answers root on the node what the agent knows: GET /policy on
// a Unix socket says in JSON which policies are enforced and what their rules
// have counted (type Policy). It changes nothing and has no state. The agent
// calls Run on a goroutine of its own; requests are answered on others.
package localapi
