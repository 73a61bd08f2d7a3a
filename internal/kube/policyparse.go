// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/waymark-net/waymark/policy"
)

// PolicyProblem says what of a policy object was not understood, and therefore
// allows less than its author may have meant.
type PolicyProblem struct {
	Policy policy.Key
	// Field is the path of the field, Value what stands there.
	Field, Value string
	// Allowed says what could stand there.
	Allowed string
}

func (p PolicyProblem) String() string {
	return fmt.Sprintf("%s: %s: %q: %s", p.Policy, p.Field, p.Value, p.Allowed)
}

// policyParser collects what is wrong with one object.
type policyParser struct {
	key      policy.Key
	problems []PolicyProblem
	steps    [10]step // of the path that is being looked at
}

// step is a field, or an item of one.
type step struct {
	name  string
	index int // -1 for none
}

// path names a field: the first steps of the parser. It is put together only
// when there is something to say. A path is good until its parent makes another.
type path struct {
	parser *policyParser
	depth  int
}

func (p path) String() string {
	var text strings.Builder
	for i, s := range p.parser.steps[:p.depth] {
		if i > 0 {
			text.WriteByte('.')
		}
		text.WriteString(s.name)
		if s.index >= 0 {
			fmt.Fprintf(&text, "[%d]", s.index)
		}
	}
	return text.String()
}

func (p path) field(name string) path { return p.item(name, -1) }

func (p path) item(name string, i int) path {
	p.parser.steps[p.depth] = step{name, i}
	return path{p.parser, p.depth + 1}
}

func (r *policyParser) report(at path, value any, allowed string) {
	r.problems = append(r.problems, PolicyProblem{Policy: r.key, Field: at.String(), Value: fmt.Sprint(value), Allowed: allowed})
}

// selector parses a label selector. What of it is not understood is left out,
// so that it selects more, and ok is false.
func (r *policyParser) selector(at path, object *metav1.LabelSelector) (s policy.Selector, ok bool) {
	size := len(object.MatchLabels) + len(object.MatchExpressions)
	if size == 0 {
		return policy.Selector{}, true
	}
	ok = true
	requirements := make([]policy.Requirement, 0, size)
	values := make([]string, 0, len(object.MatchLabels))
	for key, value := range object.MatchLabels {
		values = append(values, value)
		requirements = append(requirements, policy.Requirement{Key: key, Values: values[len(values)-1 : len(values) : len(values)]})
	}
	for i := range object.MatchExpressions {
		e := &object.MatchExpressions[i]
		item := at.item("matchExpressions", i)
		requirement, fine := r.requirement(item, e)
		if !fine {
			ok = false
			continue
		}
		requirements = append(requirements, requirement)
	}
	valid := requirements[:0]
	for _, q := range requirements {
		if problems := labelProblems(q); len(problems) > 0 {
			r.report(at, q.Key+" "+q.Operator.String()+" "+strings.Join(q.Values, ","), "a label's key and values: "+strings.Join(problems, "; "))
			ok = false
			continue
		}
		valid = append(valid, q)
	}
	return policy.NewSelector(valid), ok
}

func (r *policyParser) requirement(at path, e *metav1.LabelSelectorRequirement) (q policy.Requirement, ok bool) {
	q.Key = e.Key
	switch e.Operator {
	case metav1.LabelSelectorOpIn:
		q.Operator = policy.In
	case metav1.LabelSelectorOpNotIn:
		q.Operator = policy.NotIn
	case metav1.LabelSelectorOpExists:
		q.Operator = policy.Exists
	case metav1.LabelSelectorOpDoesNotExist:
		q.Operator = policy.DoesNotExist
	default:
		r.report(at.field("operator"), e.Operator, "In, NotIn, Exists or DoesNotExist")
		return q, false
	}
	listed := q.Operator == policy.In || q.Operator == policy.NotIn
	switch {
	case listed && len(e.Values) == 0:
		r.report(at.field("values"), e.Values, "at least one value with operator "+q.Operator.String())
		return q, false
	case !listed && len(e.Values) > 0:
		r.report(at.field("values"), e.Values, "no values with operator "+q.Operator.String())
		return q, false
	}
	q.Values = slices.Clone(e.Values)
	return q, true
}

// labelProblems says why no object can have a label like that; it is quick
// about what is usual.
func labelProblems(q policy.Requirement) []string {
	var problems []string
	if !plainName(q.Key) {
		problems = validation.IsQualifiedName(q.Key)
	}
	for _, v := range q.Values {
		if v != "" && !plainName(v) {
			problems = append(problems, validation.IsValidLabelValue(v)...)
		}
	}
	return problems
}

// plainName reports that a text of letters, digits and dashes needs no further look.
func plainName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// prefix parses a CIDR. Bits beyond its length do not matter.
func (r *policyParser) prefix(at path, text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		r.report(at, text, "an IPv4 or IPv6 CIDR such as 10.0.0.0/8 or fd00::/8")
		return netip.Prefix{}, false
	}
	return p.Masked(), true
}

// number checks the number of a port.
func (r *policyParser) number(at path, n int32) (uint16, bool) {
	if n < 1 || n > 65535 {
		r.report(at, n, "1 to 65535")
		return 0, false
	}
	return uint16(n), true
}

// allPorts are all of a protocol.
func allPorts(p policy.Protocol) policy.PortRange {
	return policy.PortRange{Protocol: p, First: 0, Last: 65535}
}
