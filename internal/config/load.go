// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/waymark-net/waymark/routing"
)

// FieldError is one thing that is wrong in a document.
type FieldError struct {
	// Line in the document, 0 where there is none.
	Line int
	// Path of the field, such as bgp.asn; empty for the document itself.
	Path string
	// Value as it was found, in quotes or in words.
	Value string
	// Allowed says what is allowed there.
	Allowed string
}

// Error implements error.
func (e *FieldError) Error() string {
	text := fmt.Sprintf("%s: %s", e.Value, e.Allowed)
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	if e.Line > 0 {
		text = fmt.Sprintf("line %d: %s", e.Line, text)
	}
	return text
}

// Load parses a document strictly. families are those of the cluster's Pods,
// as far as the caller knows them: an MTU that is too small for IPv6 is an
// error only where IPv6 is among them. The error joins one *FieldError for
// every mistake in the document; the Config is then nil.
func Load(document []byte, families ...routing.Family) (*Config, error) {
	root, err := parse(document)
	if err != nil {
		return nil, err
	}
	d := &decoder{failed: map[string]bool{}, lines: map[string]int{}}
	c := Default()
	d.document(c)("", root)
	if _, stated := d.lines["bgp.enabled"]; !stated {
		c.BGP.Enabled = c.Mode != routing.ModeEncap
	}
	errs := d.errs
	for _, e := range c.validate(families) {
		if d.failed[e.Path] {
			continue
		}
		e.Line = d.lines[e.Path]
		errs = append(errs, e)
	}
	if len(errs) == 0 {
		return c, nil
	}
	slices.SortStableFunc(errs, func(a, b *FieldError) int { return a.Line - b.Line })
	joined := make([]error, 0, len(errs))
	for _, e := range errs {
		joined = append(joined, e)
	}
	return nil, errors.Join(joined...)
}

// parse reads the one YAML document and returns its top node.
func parse(document []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(document))
	var first, second yaml.Node
	err := dec.Decode(&first)
	if errors.Is(err, io.EOF) {
		return nil, &FieldError{Value: "an empty document", Allowed: fmt.Sprintf("must state apiVersion: %s and kind: %s", APIVersion, Kind)}
	}
	if err != nil {
		return nil, fmt.Errorf("not a YAML document: %w", err)
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, fmt.Errorf("not a YAML document: %w", err)
		}
		return nil, &FieldError{Line: second.Line, Value: "a second document", Allowed: "must be one YAML document only"}
	}
	if first.Kind != yaml.DocumentNode || len(first.Content) != 1 {
		return nil, &FieldError{Value: "no content", Allowed: "must be one YAML mapping"}
	}
	return first.Content[0], nil
}

// document is the form of the configuration document.
func (d *decoder) document(c *Config) setter {
	var apiVersion, kind string
	fields := d.object(map[string]setter{
		"apiVersion": text(d, &apiVersion),
		"kind":       text(d, &kind),
		"mode":       text(d, &c.Mode),
		"datapath":   text(d, &c.Datapath),
		"tunnel": d.object(map[string]setter{
			"type":     text(d, &c.Tunnel.Type),
			"port":     integer(d, &c.Tunnel.Port, 0, math.MaxUint16, portAllowed),
			"underlay": text(d, &c.Tunnel.Underlay),
		}),
		"mtu":                integer(d, &c.MTU, math.MinInt32, math.MaxInt32, "must be a number of bytes"),
		"snat":               text(d, &c.SNAT),
		"nonMasqueradeCIDRs": d.prefixes(&c.NonMasqueradeCIDRs),
		"trustDefaultRoute":  d.boolean(&c.TrustDefaultRoute),
		"uplink": d.object(map[string]setter{
			"interface": text(d, &c.Uplink.Interface),
		}),
		"bgp": d.object(map[string]setter{
			"enabled":      d.boolean(&c.BGP.Enabled),
			"asn":          integer(d, &c.BGP.ASN, 0, math.MaxUint32, "must be "+asnAllowed),
			"asnNodeLabel": text(d, &c.BGP.ASNNodeLabel),
			"listenPort":   integer(d, &c.BGP.ListenPort, math.MinInt32, math.MaxInt32, listenAllowed),
			"gracefulRestart": d.object(map[string]setter{
				"enabled":     d.boolean(&c.BGP.GracefulRestart.Enabled),
				"restartTime": d.duration(&c.BGP.GracefulRestart.RestartTime),
			}),
			"maximumPaths": integer(d, &c.BGP.MaximumPaths, math.MinInt32, math.MaxInt32, pathsAllowed),
			"drain": d.object(map[string]setter{
				"onCordon": d.boolean(&c.BGP.Drain.OnCordon),
				"time":     d.duration(&c.BGP.Drain.Time),
			}),
		}),
		"hostFirewall": text(d, &c.HostFirewall),
		"networkPolicy": d.object(map[string]setter{
			"podTimeout":        d.duration(&c.NetworkPolicy.PodTimeout),
			"withoutController": text(d, &c.NetworkPolicy.WithoutController),
			"logDenied":         d.boolean(&c.NetworkPolicy.LogDenied),
		}),
		"services": d.object(map[string]setter{
			"mode":              text(d, &c.Services.Mode),
			"nodePortAddresses": d.prefixes(&c.Services.NodePortAddresses),
		}),
	})
	return func(path string, n *yaml.Node) {
		fields(path, n)
		if n.Kind != yaml.MappingNode {
			return
		}
		d.exactly("apiVersion", apiVersion, APIVersion)
		d.exactly("kind", kind, Kind)
	}
}

// exactly demands a value that never varies; it must be stated.
func (d *decoder) exactly(path, value, want string) {
	if value != want {
		d.errs = append(d.errs, &FieldError{Line: d.lines[path], Path: path, Value: quote(value), Allowed: "must be " + want})
	}
}
