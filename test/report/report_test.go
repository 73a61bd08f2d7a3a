// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func example() *Report {
	return &Report{
		Name: "datapath", Commit: "abc", Command: "make bench-datapath",
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Rows: []Row{
			Measure("noEncap TCP", 0.91234, "Gbit/s").Beside(1),
			Check("no tunnel packet", false, "7 seen\non a|b"),
			Measure("lost", 0, ""),
		},
	}
}

func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out", "bench", "x.json")
	want := example()
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), `"ok"`) != 1 || strings.Count(string(text), `"value"`) != 2 {
		t.Errorf("keys that do not apply are there:\n%s", text)
	}
	if diff := cmp.Diff([]string{"no tunnel packet"}, got.Failed()); diff != "" {
		t.Errorf("failed (-want +got):\n%s", diff)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".report*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestBegin(t *testing.T) {
	r := Begin(context.Background(), Params{Name: "n", Command: "c", Source: t.TempDir()})
	want := &Report{Name: "n", Command: "c", Rows: []Row{}}
	if diff := cmp.Diff(want, r, cmpopts.IgnoreFields(Report{}, "Started")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWrong(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"no JSON":       {`x`, "invalid character"},
		"unknown field": {`{"name":"n","started":"2026-01-02T03:04:05Z","rows":[],"more":1}`, "unknown field"},
		"two values":    {`{"name":"n","started":"2026-01-02T03:04:05Z"} {}`, "more than one"},
		"no name":       {`{"started":"2026-01-02T03:04:05Z"}`, "no name"},
		"no start":      {`{"name":"n"}`, "no start"},
		"no case":       {`{"name":"n","started":"2026-01-02T03:04:05Z","rows":[{"ok":true}]}`, "row 0 has no case"},
		"twice":         {`{"name":"n","started":"2026-01-02T03:04:05Z","rows":[{"case":"c","ok":true},{"case":"c","ok":true}]}`, `case "c" twice`},
		"empty row":     {`{"name":"n","started":"2026-01-02T03:04:05Z","rows":[{"case":"c"}]}`, `case "c" says nothing`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "r.json")
			if err := os.WriteFile(path, []byte(test.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := Read(path); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"name":"n","started":"2026-01-02T03:04:05Z","rows":[{"case":"c","ok":true}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := parse(text); err == nil {
			r.Markdown()
		}
	})
}

func TestMarkdown(t *testing.T) {
	want := `| Case | Holds | Value | Beside | Ratio | Note |
| --- | --- | ---: | ---: | ---: | --- |
| noEncap TCP |  | 0.9123 Gbit/s | 1 Gbit/s | 0.91 |  |
| no tunnel packet | **no** |  |  |  | 7 seen on a\|b |
| lost |  | 0 |  |  |  |

*datapath: 2026-01-02, commit abc, by ` + "`make bench-datapath`" + `.*
`
	if diff := cmp.Diff(want, example().Markdown()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestQuantity(t *testing.T) {
	for _, test := range []struct {
		value float64
		unit  string
		want  string
	}{
		{0, "", "0"}, {3, "ms", "3 ms"}, {123456.789, "B", "123457 B"}, {12.3456, "", "12.35"},
		{1.5, "x", "1.5 x"}, {-0.5, "", "-0.5"}, {1200000, "", "1200000"}, {0.000123456, "s", "0.0001235 s"},
	} {
		if got := quantity(&test.value, test.unit); got != test.want {
			t.Errorf("%v: %q, want %q", test.value, got, test.want)
		}
	}
}

func TestFill(t *testing.T) {
	lookup := func(file string) (*Report, error) {
		switch file {
		case "there.json":
			return &Report{Name: "r", Rows: []Row{Check("c", true, "")}}, nil
		case "bad.json":
			return nil, errors.New("bad report")
		}
		return nil, nil
	}
	table := "| Case | Holds |\n| --- | --- |\n| c | yes |\n\n*r: 0001-01-01.*\n"
	for name, test := range map[string]struct{ document, want, err string }{
		"no marker": {document: "text\n", want: "text\n"},
		"filled": {
			document: "a\n<!-- report: there.json -->\nold\n<!-- end report -->\nb\n",
			want:     "a\n<!-- report: there.json -->\n" + table + "<!-- end report -->\nb\n",
		},
		"not there": {
			document: "<!-- report: other.json -->\nold\n<!-- end report -->\n<!-- report: there.json -->\n<!-- end report -->\n",
			want:     "<!-- report: other.json -->\nold\n<!-- end report -->\n<!-- report: there.json -->\n" + table + "<!-- end report -->\n",
		},
		"no end":      {document: "<!-- report: there.json -->\n", err: "no line"},
		"end missing": {document: "<!-- report: there.json -->\n<!-- report: there.json -->\n<!-- end report -->\n", err: "no line"},
		"bad report":  {document: "<!-- report: bad.json -->\nold\n<!-- end report -->\n", want: "<!-- report: bad.json -->\nold\n<!-- end report -->\n", err: "bad report"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Fill(test.document, lookup)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err == nil {
				again, err := Fill(got, lookup)
				if err != nil || again != got {
					t.Errorf("filling twice changes the document: %v", err)
				}
			}
		})
	}
}
