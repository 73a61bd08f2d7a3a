// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/routing"
)

const (
	// minIPv6MTU is the least link MTU of IPv6 (RFC 8200, section 5).
	minIPv6MTU = 1280
	// minIPv4MTU is the least datagram that every IPv4 host must accept (RFC 791).
	minIPv4MTU = 576
	maxMTU     = 65535
	// maxRestartTime is what the 12-bit field of RFC 4724 can hold.
	maxRestartTime = 4095 * time.Second
	// maxPodTimeout leaves the container runtime time for the rest within the
	// two minutes that the kubelet gives it.
	maxPodTimeout = 60 * time.Second
	// maxPaths is what the kernel and the speaker were tried with.
	maxPaths = 64
	// maxDrainTime is more than any fabric takes.
	maxDrainTime = 10 * time.Minute
	// maxInterfaceName is IFNAMSIZ less its closing zero.
	maxInterfaceName = 15

	portAllowed    = "must be a UDP port 1..65535, or 0 for the protocol's own"
	listenAllowed  = "must be a TCP port 1..65535, or -1 to not listen"
	pathsAllowed   = "must be a number of paths 1..64"
	cidrAllowed    = "must be a CIDR such as 192.0.2.0/24 or 2001:db8::/32"
	restartAllowed = "must be whole seconds 1s..4095s"

	drainAllowed = "must be whole seconds 0s..600s"

	podTimeoutAllowed = "must be whole seconds 1s..60s"
)

// Validate reports every error of a Config as joined *FieldError. families are
// those of the cluster's Pods, as in Load.
func (c *Config) Validate(families ...routing.Family) error {
	var errs []error
	for _, e := range c.validate(families) {
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// findings collects what validate finds.
type findings []*FieldError

func (f *findings) add(path, value, allowed string) {
	*f = append(*f, &FieldError{Path: path, Value: value, Allowed: allowed})
}

// number adds a finding unless ok.
func (f *findings) number(ok bool, path string, value any, allowed string) {
	if !ok {
		f.add(path, fmt.Sprint(value), allowed)
	}
}

// oneOf adds a finding unless the value is one of those allowed.
func oneOf[T ~string](f *findings, path string, value T, allowed ...T) {
	if slices.Contains(allowed, value) {
		return
	}
	all := make([]string, 0, len(allowed))
	for _, a := range allowed {
		all = append(all, string(a))
	}
	f.add(path, quote(string(value)), "must be one of "+strings.Join(all, ", "))
}

func (c *Config) validate(families []routing.Family) []*FieldError {
	var f findings
	oneOf(&f, "mode", c.Mode, routing.ModeEncap, routing.ModeNoEncap, routing.ModeHybrid, routing.ModeAuto)
	oneOf(&f, "datapath", c.Datapath, DatapathSystem, DatapathNetdev)
	oneOf(&f, "tunnel.type", c.Tunnel.Type, encap.Geneve, encap.VXLAN)
	oneOf(&f, "tunnel.underlay", c.Tunnel.Underlay, encap.UnderlayAuto, encap.UnderlayIPv4, encap.UnderlayIPv6)
	c.validateMTU(&f, families)
	oneOf(&f, "snat", c.SNAT, SNATAuto, SNATAlways, SNATNever)
	validateCIDRs(&f, "nonMasqueradeCIDRs", c.NonMasqueradeCIDRs)
	validateInterface(&f, "uplink.interface", c.Uplink.Interface)
	c.BGP.validate(&f)
	oneOf(&f, "hostFirewall", c.HostFirewall, HostFirewallAuto, HostFirewallNFTables, HostFirewallIPTables)
	wait := c.NetworkPolicy.PodTimeout
	f.number(wait >= time.Second && wait <= maxPodTimeout && wait%time.Second == 0, "networkPolicy.podTimeout", wait, podTimeoutAllowed)
	oneOf(&f, "networkPolicy.withoutController", c.NetworkPolicy.WithoutController, WithoutControllerLastKnown, WithoutControllerWait)
	oneOf(&f, "services.mode", c.Services.Mode, ServicesAll, ServicesClusterIPOnly, ServicesDisabled)
	validateCIDRs(&f, "services.nodePortAddresses", c.Services.NodePortAddresses)
	return f
}

func (c *Config) validateMTU(f *findings, families []routing.Family) {
	if c.MTU == 0 {
		return
	}
	least, why := minIPv4MTU, ""
	if slices.Contains(families, routing.IPv6) {
		least, why = minIPv6MTU, " (the cluster's Pods have IPv6 addresses, RFC 8200)"
	}
	f.number(c.MTU >= least && c.MTU <= maxMTU, "mtu", c.MTU,
		fmt.Sprintf("must be a number of bytes %d..%d%s, or 0 to find it from the uplink", least, maxMTU, why))
}

func validateCIDRs(f *findings, path string, list []netip.Prefix) {
	for i, prefix := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case !prefix.IsValid() || prefix.Addr().Is4In6():
			f.add(at, quote(prefix.String()), cidrAllowed)
		case prefix != prefix.Masked():
			f.add(at, quote(prefix.String()), fmt.Sprintf("must be a network without host bits, such as %s", prefix.Masked()))
		case slices.Contains(list[:i], prefix):
			f.add(at, quote(prefix.String()), "must be listed once only")
		}
	}
}

func validateInterface(f *findings, path, name string) {
	bad := strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' })
	if bad || len(name) > maxInterfaceName || name == "." || name == ".." {
		f.add(path, quote(name), "must be the name of a network interface (at most 15 characters), or empty to find it")
	}
}

func (b BGP) validate(f *findings) {
	f.number(ASNUsable(b.ASN), "bgp.asn", b.ASN, "must be "+asnAllowed)
	if b.ASNNodeLabel != "" {
		if problems := validation.IsQualifiedName(b.ASNNodeLabel); len(problems) > 0 {
			f.add("bgp.asnNodeLabel", quote(b.ASNNodeLabel), "must be the key of a node label, or empty: "+strings.Join(problems, "; "))
		}
	}
	f.number(b.ListenPort == -1 || b.ListenPort >= 1 && b.ListenPort <= 65535, "bgp.listenPort", b.ListenPort, listenAllowed)
	restart := b.GracefulRestart.RestartTime
	f.number(restart >= time.Second && restart <= maxRestartTime && restart%time.Second == 0,
		"bgp.gracefulRestart.restartTime", restart, restartAllowed)
	drain := b.Drain.Time
	f.number(drain >= 0 && drain <= maxDrainTime && drain%time.Second == 0, "bgp.drain.time", drain, drainAllowed)
	f.number(b.MaximumPaths >= 1 && b.MaximumPaths <= maxPaths, "bgp.maximumPaths", b.MaximumPaths, pathsAllowed)
}
