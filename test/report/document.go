// SPDX-License-Identifier: Apache-2.0

package report

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Markers of a place in a document that a report fills.
var (
	beginMarker = regexp.MustCompile(`(?m)^<!-- report: (\S+) -->$`)
	endMarker   = "<!-- end report -->"
)

// Fill replaces what stands between `<!-- report: FILE -->` and `<!-- end report
// -->` in a document by the table of the report that lookup returns for FILE.
// Where it returns nil the text stays.
func Fill(document string, lookup func(file string) (*Report, error)) (string, error) {
	var out strings.Builder
	var errs []error
	for {
		at := beginMarker.FindStringSubmatchIndex(document)
		if at == nil {
			out.WriteString(document)
			return out.String(), errors.Join(errs...)
		}
		file := document[at[2]:at[3]]
		length := strings.Index(document[at[1]:], endMarker)
		next := beginMarker.FindStringIndex(document[at[1]:])
		if length < 0 || next != nil && next[0] < length {
			return "", fmt.Errorf("report %s: no line %q after its begin", file, endMarker)
		}
		out.WriteString(document[:at[1]])
		between := document[at[1] : at[1]+length]
		r, err := lookup(file)
		if err != nil {
			errs = append(errs, err)
		}
		if r != nil && err == nil {
			between = "\n" + r.Markdown()
		}
		out.WriteString(between + endMarker)
		document = document[at[1]+length+len(endMarker):]
	}
}
