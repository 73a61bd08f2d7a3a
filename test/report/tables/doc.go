// SPDX-License-Identifier: Apache-2.0

// Command tables writes what runs found into the documents: every place in a
// Markdown file between `<!-- report: FILE -->` and `<!-- end report -->` becomes
// the table of out/FILE. Places whose report is not there stay as they are.
//
//	go run ./test/report/tables [--out out] [FILE.md | DIRECTORY]...
//
// Without arguments it looks through docs and README.md.
package main
