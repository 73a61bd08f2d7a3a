// SPDX-License-Identifier: Apache-2.0

// Package localapi answers root on the node what the agent knows, in JSON on a
// Unix socket: GET /policy says which policies are enforced and what their rules
// have counted (type Policy), GET /services what of Services is not served, and
// how single ones are (type Services). It changes nothing and has no state. The
// agent calls Run on a goroutine of its own; requests are answered on others.
package localapi
