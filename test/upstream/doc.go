// SPDX-License-Identifier: Apache-2.0

// Command upstream starts a lab, runs an upstream suite against it and writes
// what came of every spec: out/conformance/SUITE-MODE-FAMILIES/ has the result of
// each spec, the suite's log and the logs of the specs that failed;
// out/conformance/SUITE-MODE-FAMILIES.json is the report for docs/conformance.md.
// A run with kube-proxy, and one of some specs, write to SUITE-MODE-FAMILIES-kube-proxy
// and SUITE-MODE-FAMILIES-part instead. It fails when a spec fails. The lab is
// removed at the end, unless it is to be kept, also when the run is interrupted;
// one that a killed run left is removed by the next.
package main
