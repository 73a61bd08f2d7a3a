// SPDX-License-Identifier: Apache-2.0

// Package report is the form in which demo, end-to-end, conformance, resilience
// and benchmark runs write what they found: one JSON file a run under out/, with
// a row for each case. Tests write it with [Begin], [Report.Add] and
// [Report.Write]; `go run ./test/report/tables` puts it into the documents.
//
// A Report belongs to one goroutine.
package report
