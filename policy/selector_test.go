// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"testing"
)

func in(key string, values ...string) Requirement {
	return Requirement{Key: key, Operator: In, Values: values}
}

func notIn(key string, values ...string) Requirement {
	return Requirement{Key: key, Operator: NotIn, Values: values}
}

func TestSelectorMatches(t *testing.T) {
	exists, absent := Requirement{Key: "a", Operator: Exists}, Requirement{Key: "a", Operator: DoesNotExist}
	for _, c := range []struct {
		name         string
		requirements []Requirement
		labels       map[string]string
		want         bool
	}{
		{"all", nil, nil, true},
		{"in", []Requirement{in("a", "x", "y")}, map[string]string{"a": "y"}, true},
		{"not one of", []Requirement{in("a", "x", "y")}, map[string]string{"a": "z"}, false},
		{"in needs the label", []Requirement{in("a", "")}, nil, false},
		{"in of nothing", []Requirement{in("a")}, map[string]string{"a": ""}, false},
		{"not in", []Requirement{notIn("a", "x")}, map[string]string{"a": "y"}, true},
		{"not in, and is", []Requirement{notIn("a", "x")}, map[string]string{"a": "x"}, false},
		{"not in holds without the label", []Requirement{notIn("a", "", "x")}, nil, true},
		{"exists", []Requirement{exists}, map[string]string{"a": ""}, true},
		{"exists, and does not", []Requirement{exists}, map[string]string{"b": ""}, false},
		{"does not exist", []Requirement{absent}, map[string]string{"b": ""}, true},
		{"does not exist, and does", []Requirement{absent}, map[string]string{"a": ""}, false},
		{"all must hold", []Requirement{in("a", "x"), in("b", "x")}, map[string]string{"a": "x", "b": "y"}, false},
		{"all hold", []Requirement{in("a", "x"), notIn("a", "y")}, map[string]string{"a": "x"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := NewSelector(c.requirements).Matches(c.labels); got != c.want {
				t.Errorf("%t, want %t", got, c.want)
			}
		})
	}
	if Nothing().Matches(map[string]string{"": ""}) {
		t.Error("Nothing selects something")
	}
}

// TestSelectorString checks that equal selectors have equal texts, and others not.
func TestSelectorString(t *testing.T) {
	seen := map[string]int{}
	for i, group := range [][][]Requirement{
		{nil, {}},
		{{in("a", "x", "y"), in("b", "z")}, {in("b", "z"), in("a", "y", "x", "y"), in("b", "z")}},
		{{in("a", "x")}},
		{{in("a", "x"), in("a", "y")}},
		{{in("a", "x|y")}},
		{{in("a", `x"|"y`)}},
		{{in("a", "x)|(y")}},
		{{in("a", "")}},
		{{in("a")}},
		{{notIn("a", "x", "y")}},
		{{{Key: "a", Operator: Exists}}},
		{{{Key: "a", Operator: DoesNotExist}}},
		{{{Key: "!a", Operator: Exists}}},
		{{{Key: "a,b", Operator: Exists}}},
		{{{Key: "a", Operator: Exists}, {Key: "b", Operator: Exists}}},
	} {
		for _, requirements := range group {
			text := NewSelector(requirements).String()
			if other, ok := seen[text]; ok && other != i {
				t.Errorf("selectors %d and %d are both %q", other, i, text)
			}
			seen[text] = i
		}
	}
	if len(seen) != 15 {
		t.Errorf("%d texts: %v", len(seen), seen)
	}
}

func TestSelectorJSON(t *testing.T) {
	for _, s := range []Selector{{}, Nothing(), NewSelector([]Requirement{in("a", "x"), notIn("b", "y")})} {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Selector
		if err := json.Unmarshal(text, &back); err != nil || back.String() != s.String() {
			t.Errorf("%q came back as %q by %s: %v", s, back, text, err)
		}
	}
}

func TestIdentityOf(t *testing.T) {
	http, dns := NamedPort{"http", TCP, 80}, NamedPort{"dns", UDP, 53}
	labels := map[string]string{"a": "x", "b": "y"}
	id := IdentityOf("ns", labels, []NamedPort{http, dns})
	if other := IdentityOf("ns", map[string]string{"b": "y", "a": "x"}, []NamedPort{dns, http}); other != id {
		t.Error("the order matters")
	}
	for name, other := range map[string]ID{
		"namespace": IdentityOf("n", labels, []NamedPort{http, dns}),
		"labels":    IdentityOf("ns", map[string]string{"a": "xb", "": "y"}, []NamedPort{http, dns}),
		"number":    IdentityOf("ns", labels, []NamedPort{{"http", TCP, 81}, dns}),
		"protocol":  IdentityOf("ns", labels, []NamedPort{{"http", UDP, 80}, dns}),
		"fewer":     IdentityOf("ns", labels, []NamedPort{http}),
	} {
		if other == id {
			t.Errorf("%s does not matter", name)
		}
	}
}
