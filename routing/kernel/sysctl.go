// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/routing"
)

// SysctlParams say on which interfaces the node routes.
type SysctlParams struct {
	// Root is where the sysctls are, "/proc/sys" if empty.
	Root string
	// Gateway is the interface of the node's Pods.
	Gateway string
	// Interfaces are the others that Pod traffic uses: the uplink, and those
	// of further next hops. Interfaces that do not exist are passed over.
	Interfaces []string
	Families   []routing.Family
	// PerFlow has routes with several next hops chosen among by ports, too, and not by
	// addresses alone: so that what some flows show holds for all.
	PerFlow bool
	// Switched is the NIC that a userspace switch has, as UplinkMover keeps it;
	// empty if there is none.
	Switched string
}

type sysctl struct{ path, value string }

// EnsureSysctls makes the interfaces concerned route, and only these where the
// kernel has a switch for each. In IPv6 it has not: forwarding is one switch
// for the node, and it makes interfaces ignore router advertisements, so
// accept_ra is raised from 1 to 2 first where it was in force, also on
// interfaces that are not concerned, such as one without carrier. It returns
// what it changed ("path=value"), goes on past errors and returns them joined.
func EnsureSysctls(ctx context.Context, p SysctlParams) ([]string, error) {
	return writeSysctls(ctx, p.root(), p.wanted())
}

// driftedSysctls returns the paths of those that EnsureSysctls would write.
func driftedSysctls(p SysctlParams) []string {
	var out []string
	for _, s := range p.wanted() {
		// What cannot be read is reported by whoever is to write it.
		if have, err := readSysctl(p.root(), s.path); err == nil && have != s.value {
			out = append(out, s.path)
		}
	}
	return out
}

func (p SysctlParams) root() string { return cmp.Or(p.Root, sysctlRoot) }

// wanted reads what the values depend on.
func (p SysctlParams) wanted() []sysctl {
	dirs, _ := os.ReadDir(filepath.Join(p.root(), "net/ipv6/conf")) // none without IPv6
	var all []string
	for _, d := range dirs {
		if n := d.Name(); n != "all" && n != "default" && n != p.Gateway {
			all = append(all, n)
		}
	}
	return wantedSysctls(p, all, func(path string) string {
		v, _ := readSysctl(p.root(), path)
		return v
	})
}

// wantedSysctls lists the values in the order in which they must be written. all
// are the interfaces with IPv6 but the gateway.
func wantedSysctls(p SysctlParams, all []string, current func(path string) string) []sysctl {
	var out []sysctl
	if p.Switched != "" {
		out = append(out, deaf(p.Switched)...)
	}
	set := func(value string, elems ...string) { out = append(out, sysctl{filepath.Join(elems...), value}) }
	if slices.Contains(p.Families, routing.IPv4) {
		if p.PerFlow {
			set("1", "net/ipv4/fib_multipath_hash_policy")
		}
		for _, i := range append([]string{p.Gateway}, p.Interfaces...) {
			set("1", "net/ipv4/conf", i, "forwarding")
			// Loose: with several routers the way in is not always the way out.
			set("2", "net/ipv4/conf", i, "rp_filter")
		}
		for _, i := range p.Interfaces {
			// Of several next hops those on a link without carrier are passed over at once.
			set("1", "net/ipv4/conf", i, "ignore_routes_with_linkdown")
		}
	}
	if !slices.Contains(p.Families, routing.IPv6) {
		return out
	}
	if p.PerFlow {
		set("1", "net/ipv6/fib_multipath_hash_policy")
	}
	set("0", "net/ipv6/conf", p.Gateway, "disable_ipv6")
	set("0", "net/ipv6/conf", p.Gateway, "accept_ra")
	set("0", "net/ipv6/conf", p.Gateway, "accept_dad")
	listeners := p.Interfaces
	if current("net/ipv6/conf/all/forwarding") == "0" {
		listeners = all
	}
	for _, i := range listeners {
		ra := filepath.Join("net/ipv6/conf", i, "accept_ra")
		if current(ra) == "1" && current(filepath.Join("net/ipv6/conf", i, "forwarding")) == "0" {
			set("2", ra)
		}
	}
	for _, i := range p.Interfaces {
		set("1", "net/ipv6/conf", i, "ignore_routes_with_linkdown")
	}
	set("1", "net/ipv6/conf/all/forwarding")
	return out
}

// writeSysctls writes the values that differ. An interface that is not there
// is no error: it will be when it comes.
func writeSysctls(ctx context.Context, root string, want []sysctl) (changed []string, err error) {
	var errs []error
	for _, s := range want {
		have, err := readSysctl(root, s.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && have != s.value {
			err = os.WriteFile(filepath.Join(root, s.path), []byte(s.value), 0o644)
			if err == nil {
				klog.FromContext(ctx).Info("Sysctl changed", "sysctl", s.path, "value", s.value, "was", have)
				changed = append(changed, s.path+"="+s.value)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("sysctl %s: %w", s.path, err))
		}
	}
	return changed, errors.Join(errs...)
}

func readSysctl(root, path string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, path))
	return strings.TrimSpace(string(b)), err
}
