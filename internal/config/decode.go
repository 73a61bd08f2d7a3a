// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A setter takes the value of one field, found at a path, into the Config.
type setter func(path string, n *yaml.Node)

// decoder walks the YAML nodes of a document. Unlike an unmarshaller it does
// not stop at the first error, and knows the line of every field.
type decoder struct {
	errs []*FieldError
	// failed holds the paths that errs speak of.
	failed map[string]bool
	lines  map[string]int
}

func (d *decoder) fail(path string, n *yaml.Node, allowed string) {
	d.failed[path] = true
	d.errs = append(d.errs, &FieldError{Line: n.Line, Path: path, Value: summary(n), Allowed: allowed})
}

// summary renders a node in a few words for an error message.
func summary(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "*" + n.Value
	}
	if n.ShortTag() == "!!str" {
		return quote(n.Value)
	}
	return strings.Trim(quote(n.Value), `"`)
}

// quote renders an outside value, shortened, on one line.
func quote(value string) string {
	const most = 80
	if runes := []rune(value); len(runes) > most {
		value = string(runes[:most]) + "…"
	}
	return strconv.Quote(value)
}

// object returns a setter of a mapping with exactly these fields.
func (d *decoder) object(fields map[string]setter) setter {
	return func(path string, n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			d.fail(path, n, "must be a mapping of "+names(fields))
			return
		}
		seen := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			name := key.Value
			if key.Kind != yaml.ScalarNode {
				d.fail(path, key, "a field name must be a plain word")
				continue
			}
			at := join(path, name)
			if line, twice := seen[name]; twice {
				d.fail(at, key, fmt.Sprintf("field given twice, first in line %d", line))
				continue
			}
			seen[name] = key.Line
			set, known := fields[name]
			if !known {
				d.fail(at, value, "unknown field, known are "+names(fields))
				continue
			}
			d.lines[at] = key.Line
			if value.Kind == yaml.AliasNode {
				d.fail(at, value, "YAML aliases are not allowed")
				continue
			}
			if value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null" {
				continue // as in the Kubernetes API: the field is not set
			}
			set(at, value)
		}
	}
}

// join appends a field to a path. Names that come from outside may hold
// anything; what is not a plain word is quoted.
func join(path, name string) string {
	plain := name != "" && len(name) < 80 && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
	if !plain {
		name = quote(name)
	}
	if path == "" {
		return name
	}
	return path + "." + name
}

func names(fields map[string]setter) string {
	all := make([]string, 0, len(fields))
	for name := range fields {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// scalar reports whether n is a scalar of the tag, and fails otherwise.
func (d *decoder) scalar(path string, n *yaml.Node, tag, allowed string) bool {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == tag {
		return true
	}
	d.fail(path, n, allowed)
	return false
}

// text returns a setter of a string. (A method cannot have type parameters.)
func text[T ~string](d *decoder, into *T) setter {
	return func(path string, n *yaml.Node) {
		if d.scalar(path, n, "!!str", "must be a string") {
			*into = T(n.Value)
		}
	}
}

func (d *decoder) boolean(into *bool) setter {
	return func(path string, n *yaml.Node) {
		if d.scalar(path, n, "!!bool", "must be true or false") {
			*into = strings.EqualFold(n.Value, "true")
		}
	}
}

// integer returns a setter of a decimal integer within bounds.
func integer[T int | uint16 | uint32](d *decoder, into *T, low, high int64, allowed string) setter {
	return func(path string, n *yaml.Node) {
		if !d.scalar(path, n, "!!int", allowed) {
			return
		}
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil || i < low || i > high {
			d.fail(path, n, allowed)
			return
		}
		*into = T(i)
	}
}

func (d *decoder) duration(into *time.Duration) setter {
	const allowed = "must be a duration with its unit, such as 120s or 2m"
	return func(path string, n *yaml.Node) {
		if !d.scalar(path, n, "!!str", allowed) {
			return
		}
		value, err := time.ParseDuration(n.Value)
		if err != nil {
			d.fail(path, n, allowed)
			return
		}
		*into = value
	}
}

func (d *decoder) prefixes(into *[]netip.Prefix) setter {
	return func(path string, n *yaml.Node) {
		if n.Kind != yaml.SequenceNode {
			d.fail(path, n, "must be a list of CIDRs, such as [192.0.2.0/24, 2001:db8::/32]")
			return
		}
		list := make([]netip.Prefix, 0, len(n.Content))
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			d.lines[at] = item.Line
			if !d.scalar(at, item, "!!str", cidrAllowed) {
				list = append(list, netip.Prefix{})
				continue
			}
			prefix, err := netip.ParsePrefix(item.Value)
			if err != nil {
				d.fail(at, item, cidrAllowed)
			}
			list = append(list, prefix) // also a bad one, so that indexes stay true
		}
		*into = list
	}
}
