// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Operator is how a Requirement compares a label.
type Operator uint8

// The operators, as Kubernetes defines them: NotIn holds also where the label
// is absent.
const (
	In Operator = iota
	NotIn
	Exists
	DoesNotExist
)

// Requirement is one condition on labels.
type Requirement struct {
	Key      string
	Operator Operator
	// Values are those of In and NotIn, sorted and without doubles.
	Values []string
}

// Selector selects sets of labels. The zero Selector selects all. Selectors
// are immutable.
type Selector struct{ *selector }

type selector struct {
	requirements []Requirement
	text         string
}

// NewSelector returns the Selector of what meets all requirements. It takes
// the slices over and puts them in order: Selectors of the same requirements
// are equal. In without values selects nothing.
func NewSelector(requirements []Requirement) Selector {
	for i := range requirements {
		slices.Sort(requirements[i].Values)
		requirements[i].Values = slices.Compact(requirements[i].Values)
	}
	if len(requirements) > 1 {
		slices.SortFunc(requirements, compareRequirements)
		requirements = slices.CompactFunc(requirements, func(a, b Requirement) bool { return compareRequirements(a, b) == 0 })
	}
	if len(requirements) == 0 {
		return Selector{}
	}
	var buf [128]byte
	return Selector{&selector{requirements: requirements, text: string(appendText(buf[:0], requirements))}}
}

// Nothing selects nothing.
func Nothing() Selector { return NewSelector([]Requirement{{Operator: In}}) }

func compareRequirements(a, b Requirement) int {
	return cmp.Or(strings.Compare(a.Key, b.Key), cmp.Compare(a.Operator, b.Operator), slices.Compare(a.Values, b.Values))
}

// Requirements must not be changed.
func (s Selector) Requirements() []Requirement {
	if s.selector == nil {
		return nil
	}
	return s.requirements
}

// String is the same for equal selectors only. That of all is empty.
func (s Selector) String() string {
	if s.selector == nil {
		return ""
	}
	return s.text
}

// All reports whether the selector selects everything.
func (s Selector) All() bool { return s.selector == nil }

// Matches reports whether the labels are selected.
func (s Selector) Matches(labels map[string]string) bool {
	if s.selector == nil {
		return true
	}
	for i := range s.requirements {
		r := &s.requirements[i]
		value, exists := labels[r.Key]
		switch r.Operator {
		case In:
			if !exists || !slices.Contains(r.Values, value) {
				return false
			}
		case NotIn:
			if exists && slices.Contains(r.Values, value) {
				return false
			}
		case Exists:
			if !exists {
				return false
			}
		case DoesNotExist:
			if exists {
				return false
			}
		}
	}
	return true
}

func appendText(b []byte, requirements []Requirement) []byte {
	for i, r := range requirements {
		if i > 0 {
			b = append(b, ',')
		}
		if r.Operator == DoesNotExist {
			b = append(b, '!')
		}
		b = appendWord(b, r.Key)
		switch r.Operator {
		case In:
			b = append(b, '=')
		case NotIn:
			b = append(b, "!="...)
		case Exists, DoesNotExist:
			continue
		}
		b = append(b, '(')
		for j, v := range r.Values {
			if j > 0 {
				b = append(b, '|')
			}
			b = appendWord(b, v)
		}
		b = append(b, ')')
	}
	return b
}

// appendWord quotes what could be taken for something else.
func appendWord(b []byte, word string) []byte {
	if word == "" {
		return append(b, `""`...)
	}
	for i := range len(word) {
		c := word[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == '/':
		default:
			return strconv.AppendQuote(b, word)
		}
	}
	return append(b, word...)
}

func (o Operator) String() string {
	switch o {
	case In:
		return "In"
	case NotIn:
		return "NotIn"
	case Exists:
		return "Exists"
	case DoesNotExist:
		return "DoesNotExist"
	}
	return fmt.Sprintf("Operator(%d)", uint8(o))
}

// MarshalJSON writes the requirements.
func (s Selector) MarshalJSON() ([]byte, error) { return json.Marshal(s.Requirements()) }

// UnmarshalJSON reads requirements.
func (s *Selector) UnmarshalJSON(text []byte) error {
	var requirements []Requirement
	if err := json.Unmarshal(text, &requirements); err != nil {
		return err
	}
	*s = NewSelector(requirements)
	return nil
}
