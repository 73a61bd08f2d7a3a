// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// column is one column of a table: its title, and the text of a row's cell.
type column struct {
	title string
	right bool
	cell  func(Row) string
}

// columns in order. Those without any text are left out of a table.
var columns = []column{
	{"Case", false, func(r Row) string { return r.Case }},
	{"Holds", false, func(r Row) string {
		if r.OK == nil {
			return ""
		}
		return map[bool]string{true: "yes", false: "**no**"}[*r.OK]
	}},
	{"Value", true, func(r Row) string { return quantity(r.Value, r.Unit) }},
	{"Beside", true, func(r Row) string { return quantity(r.Baseline, r.Unit) }},
	{"Ratio", true, func(r Row) string {
		if r.Ratio == nil {
			return ""
		}
		return strconv.FormatFloat(*r.Ratio, 'f', 2, 64)
	}},
	{"Note", false, func(r Row) string { return r.Note }},
}

// quantity renders a number with four significant digits and its unit.
func quantity(value *float64, unit string) string {
	if value == nil {
		return ""
	}
	decimals := 0
	if *value != 0 {
		decimals = max(0, 3-int(math.Floor(math.Log10(math.Abs(*value)))))
	}
	number := strconv.FormatFloat(*value, 'f', decimals, 64)
	if strings.Contains(number, ".") {
		number = strings.TrimRight(strings.TrimRight(number, "0"), ".")
	}
	return strings.TrimSpace(number + " " + unit)
}

// Markdown renders the report as a table and a line that says where it is from.
func (r *Report) Markdown() string {
	var used []column
	for _, c := range columns {
		for _, row := range r.Rows {
			if c.cell(row) != "" {
				used = append(used, c)
				break
			}
		}
	}
	var out strings.Builder
	if len(used) > 0 {
		titles, lines := make([]string, len(used)), make([]string, len(used))
		for i, c := range used {
			titles[i], lines[i] = c.title, "---"
			if c.right {
				lines[i] = "---:"
			}
		}
		writeRow(&out, titles)
		writeRow(&out, lines)
		for _, row := range r.Rows {
			cells := make([]string, len(used))
			for i, c := range used {
				cells[i] = escape(c.cell(row))
			}
			writeRow(&out, cells)
		}
		out.WriteByte('\n')
	}
	from := r.Started.Format("2006-01-02")
	if r.Commit != "" {
		from += ", commit " + r.Commit
	}
	if r.Command != "" {
		from += ", by `" + r.Command + "`"
	}
	fmt.Fprintf(&out, "*%s: %s.*\n", r.Name, from)
	return out.String()
}

func writeRow(out *strings.Builder, cells []string) {
	out.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

// escape keeps a cell's text within its cell.
func escape(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}
