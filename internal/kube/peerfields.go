// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/routing"
)

// problems collects what is wrong with one object, field by field.
type problems []error

func (p *problems) add(field string, value any, allowed string) {
	*p = append(*p, fmt.Errorf("%s: %v: must be %s", field, value, allowed))
}

func (p *problems) err() error { return errors.Join(*p...) }

func (p *problems) asn(field string, value int64) uint32 {
	if value < 0 || value > 1<<32-1 || !config.ASNUsable(uint32(value)) {
		p.add(field, value, "a usable AS number")
		return 0
	}
	return uint32(value)
}

func (p *problems) address(field, value string) netip.Addr {
	a, err := netip.ParseAddr(value)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		p.add(field, value, "an IPv4 or IPv6 address")
		return netip.Addr{}
	}
	return a
}

func (p *problems) within(field string, value, low, high int32) int32 {
	if value < low || value > high {
		p.add(field, value, fmt.Sprintf("%d..%d", low, high))
		return low
	}
	return value
}

func (p *problems) duration(field string, value v1alpha1.Duration) time.Duration {
	if value == "" {
		return 0
	}
	d, err := time.ParseDuration(string(value))
	if err != nil || d < 0 {
		p.add(field, value, "a duration such as 90s")
	}
	return d
}

const (
	defaultHold     = 90 * time.Second
	defaultInterval = 300 * time.Millisecond
)

// bfd fills in defaults, because an object may be older than those of the schema.
func (p *problems) bfd(b *v1alpha1.BFD, hold time.Duration) *routing.BFD {
	out := &routing.BFD{
		MinTx:      p.interval("bfd.transmitInterval", b.TransmitInterval),
		MinRx:      p.interval("bfd.receiveInterval", b.ReceiveInterval),
		Multiplier: int(p.within("bfd.detectMultiplier", cmp.Or(b.DetectMultiplier, 3), 2, 255)),
	}
	hold = cmp.Or(hold, defaultHold)
	if detection := time.Duration(out.Multiplier) * max(out.MinTx, out.MinRx); detection >= hold {
		p.add("bfd", detection, fmt.Sprintf("less than the hold time, %s: it is detectMultiplier times the longer interval", hold))
	}
	return out
}

func (p *problems) interval(field string, value v1alpha1.Interval) time.Duration {
	if value == "" {
		return defaultInterval
	}
	d, err := time.ParseDuration(string(value))
	if err != nil || d < 50*time.Millisecond || d > 10*time.Second {
		p.add(field, value, "50ms..10s")
		return defaultInterval
	}
	return d
}

func (p *problems) gracefulRestart(g *v1alpha1.BGPGracefulRestart, common config.GracefulRestart) *routing.GracefulRestart {
	restart := routing.GracefulRestart{Enabled: common.Enabled, RestartTime: common.RestartTime}
	if g.Enabled != nil {
		restart.Enabled = *g.Enabled
	}
	if g.RestartTime != "" {
		restart.RestartTime = p.duration("gracefulRestart.restartTime", g.RestartTime)
	}
	return &restart
}

func (p *problems) families(list []v1alpha1.Family) []routing.Family {
	var families []routing.Family
	for _, f := range list {
		switch f {
		case v1alpha1.FamilyIPv4:
			families = append(families, routing.IPv4)
		case v1alpha1.FamilyIPv6:
			families = append(families, routing.IPv6)
		default:
			p.add("families", f, "ipv4 or ipv6")
		}
	}
	return families
}

func (p *problems) importRule(i *v1alpha1.BGPImport) routing.ImportRule {
	return routing.ImportRule{
		AllowDefaultRoute: i.AllowDefaultRoute,
		Prefixes:          p.prefixes("import.prefixes", i.Prefixes),
		Deny:              p.prefixes("import.deny", i.Deny),
		LocalPref:         p.localPreference("import.localPreference", i.LocalPreference),
		MaxPrefixes:       int(i.MaxPrefixes),
	}
}

func (p *problems) exportRule(e *v1alpha1.BGPExport) routing.ExportRule {
	return routing.ExportRule{
		Prefixes:    p.prefixes("export.prefixes", e.Prefixes),
		Communities: p.communities("export.communities", e.Communities),
		LocalPref:   p.localPreference("export.localPreference", e.LocalPreference),
		MED:         p.med("export.med", e.MED),
		Prepend:     p.prepend("export.asPathPrepend", e.ASPathPrepend, 0),
	}
}

func (p *problems) prefixes(field string, list []v1alpha1.PrefixMatch) []routing.PrefixRule {
	var rules []routing.PrefixRule
	for n, m := range list {
		prefix, err := netip.ParsePrefix(m.CIDR)
		if err != nil || prefix != prefix.Masked() {
			p.add(fmt.Sprintf("%s[%d].cidr", field, n), m.CIDR, "a CIDR without host bits")
			continue
		}
		r := routing.PrefixRule{Prefix: prefix}
		if m.GE != nil {
			// LE is stated too, because a GE of 0 alone would count as not given.
			r.GE, r.LE = int(*m.GE), prefix.Addr().BitLen()
		}
		if m.LE != nil {
			r.LE = int(*m.LE)
		}
		rules = append(rules, r)
	}
	return rules
}

func (p *problems) communities(field string, list []v1alpha1.Community) []routing.Community {
	var out []routing.Community
	for _, text := range list {
		c, err := routing.ParseCommunity(string(text))
		if err != nil {
			*p = append(*p, fmt.Errorf("%s: %w", field, err))
			continue
		}
		out = append(out, c)
	}
	return out
}

// localPreference returns 0 where none is given, or a wrong one.
func (p *problems) localPreference(field string, value *int64) uint32 {
	if n := p.number(field, value, 1, math.MaxUint32); n != nil {
		return uint32(*n)
	}
	return 0
}

// med returns nil where none is given, or a wrong one.
func (p *problems) med(field string, value *int64) *uint32 {
	if n := p.number(field, value, 0, math.MaxUint32); n != nil {
		return new(uint32(*n))
	}
	return nil
}

// prepend returns nil where none is given, or a wrong one.
func (p *problems) prepend(field string, value *int32, low int64) *int {
	if value == nil {
		return nil
	}
	if n := p.number(field, new(int64(*value)), low, 10); n != nil {
		return new(int(*n))
	}
	return nil
}

func (p *problems) number(field string, value *int64, low, high int64) *int64 {
	if value != nil && (*value < low || *value > high) {
		p.add(field, *value, fmt.Sprintf("%d..%d", low, high))
		return nil
	}
	return value
}
