// SPDX-License-Identifier: Apache-2.0

// Package stream keeps one TCP connection busy in both directions with numbered
// and checked records, and reports whether it broke, lost its order, or stood
// still. `probe serve` answers with [Serve], `probe stream` runs [Run]; tests of
// failures and upgrades read the [Report].
//
// The wire is a sequence of records: a byte for the kind, four bytes of length,
// eight bytes of sequence number, and as many bytes of data, which follow from
// the sequence number. Each side starts with number 0. The client's first record
// tells the server at what pace to send. A side that is done sends an end
// record; the server's holds its own report.
//
// Each side writes in one goroutine and reads in another.
package stream
