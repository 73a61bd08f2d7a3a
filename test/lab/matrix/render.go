// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/waymark-net/waymark/test/report"
)

// Failures returns the exchanges that failed.
func (r Result) Failures() []Exchange {
	var failed []Exchange
	for _, exchange := range r.Exchanges {
		if !exchange.Result.OK {
			failed = append(failed, exchange)
		}
	}
	return failed
}

// String says what an exchange was and why it failed.
func (e Exchange) String() string {
	text := fmt.Sprintf("%s to %s, IPv%d %s", e.From.Name, e.To.Name, e.Family(), e.Protocol)
	if e.Result.OK {
		return text + ": ok"
	}
	return fmt.Sprintf("%s: %s: %s", text, e.Result.Reason, e.Result.Error)
}

// noted is how many failures a row names.
const noted = 3

// Rows makes one row of a report for each kind of source and destination,
// relation and family: whether all of its exchanges hold, the median time of
// the answered ones, and which failed.
func (r Result) Rows() []report.Row {
	type group struct {
		count  int
		times  []float64
		failed []Exchange
	}
	var order []string
	groups := map[string]*group{}
	for _, e := range r.Exchanges {
		name := fmt.Sprintf("%s to %s, %s, IPv%d", e.From.Kind, e.To.Kind, e.Relation, e.Family())
		g := groups[name]
		if g == nil {
			g = &group{}
			groups[name] = g
			order = append(order, name)
		}
		g.count++
		if e.Result.OK {
			g.times = append(g.times, e.Result.Millis)
		} else {
			g.failed = append(g.failed, e)
		}
	}
	slices.Sort(order)
	var rows []report.Row
	for _, name := range order {
		g := groups[name]
		notes := []string{fmt.Sprintf("%d of %d", g.count-len(g.failed), g.count)}
		for i, e := range g.failed {
			if i == noted {
				notes = append(notes, "...")
				break
			}
			notes = append(notes, e.String())
		}
		row := report.Check(name, len(g.failed) == 0, strings.Join(notes, "; "))
		if len(g.times) > 0 {
			slices.Sort(g.times)
			row.Value, row.Unit = &g.times[len(g.times)/2], "ms"
		}
		rows = append(rows, row)
	}
	return rows
}

// Grid renders the matrix for people: a line a source, a column a destination,
// and in each cell the families in which everything holds.
func (r Result) Grid() string {
	var sources, destinations []string
	type cell struct{ tried, failed [2]bool } // IPv4, IPv6
	cells := map[[2]string]*cell{}
	for _, e := range r.Exchanges {
		if !slices.Contains(sources, e.From.Name) {
			sources = append(sources, e.From.Name)
		}
		if !slices.Contains(destinations, e.To.Name) {
			destinations = append(destinations, e.To.Name)
		}
		key := [2]string{e.From.Name, e.To.Name}
		if cells[key] == nil {
			cells[key] = &cell{}
		}
		family := (e.Family() - 4) / 2
		cells[key].tried[family] = true
		cells[key].failed[family] = cells[key].failed[family] || !e.Result.OK
	}
	// Columns in the order of the lines, then what is never a source.
	slices.SortStableFunc(destinations, func(a, b string) int {
		order := func(name string) uint { return uint(slices.Index(sources, name)) } // -1 is last
		return cmp.Compare(order(a), order(b))
	})
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "from \\ to\t%s\n", strings.Join(destinations, "\t"))
	for _, source := range sources {
		line := []string{source}
		for _, destination := range destinations {
			c := cells[[2]string{source, destination}]
			text := "·"
			if c != nil {
				text = ""
				for family, name := range []string{"v4", "v6"} {
					switch {
					case c.failed[family]:
						text += "✗" + name + " "
					case c.tried[family]:
						text += name + " "
					}
				}
			}
			line = append(line, strings.TrimSpace(text))
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	w.Flush()
	ok := len(r.Exchanges) - len(r.Failures())
	fmt.Fprintf(&out, "%d of %d exchanges work\n", ok, len(r.Exchanges))
	for _, e := range r.Failures() {
		fmt.Fprintf(&out, "✗ %s\n", e)
	}
	return out.String()
}
