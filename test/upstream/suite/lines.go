// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"bytes"
	"io"
	"regexp"
)

// lineWriter passes on the lines that match.
type lineWriter struct {
	pass *regexp.Regexp
	out  io.Writer
	rest []byte // of a line that has not ended
}

// maxLine bounds what is kept of a line that does not end, in bytes.
const maxLine = 64 << 10

// Write never fails: what is said on a terminal does not stop a suite.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		end := bytes.IndexByte(w.rest, '\n')
		if end < 0 {
			break
		}
		if line := w.rest[:end+1]; w.pass.Match(line) {
			_, _ = w.out.Write(line)
		}
		w.rest = w.rest[end+1:]
	}
	if len(w.rest) > maxLine {
		w.rest = nil
	}
	return len(p), nil
}
