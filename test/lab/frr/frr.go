// SPDX-License-Identifier: Apache-2.0

package frr

import (
	"bytes"
	"embed"
	"fmt"
	"net/netip"
	"text/template"
	"time"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/topology"
)

//go:embed templates/*.tmpl
var templateFiles embed.FS

var templates = template.Must(template.ParseFS(templateFiles, "templates/*.tmpl"))

// group is a set of sessions that a router accepts from nodes.
type group struct {
	Name     string
	RemoteAS string // "external" or "internal"
	Ranges   []netip.Prefix
	Families []string // "ipv4", "ipv6"
	// ExtendedNextHop offers IPv6 next hops for IPv4 prefixes.
	ExtendedNextHop bool
}

func (g group) Carries(family string) bool { return contains(g.Families, family) }

// neighbor is a session with another router.
type neighbor struct {
	Address netip.Addr
	ASN     uint32
	Family  string
	Name    string
}

type config struct {
	Hostname   string
	ASN        uint32
	RouterID   netip.Addr
	Keepalive  int // seconds
	Hold       int
	Groups     []group
	Neighbors  []neighbor
	Families   []string
	Networks   map[string][]netip.Prefix // by family
	Settings   topology.Routers
	ASOverride bool // towards other routers
}

// Files are the configuration files of a router.
func Files(t *topology.Topology, router string) ([]host.File, error) {
	h, ok := t.Host(router)
	if !ok || !h.Router() {
		return nil, fmt.Errorf("no router %q", router)
	}
	c := newConfig(t, h)
	var files []host.File
	for _, name := range []string{"zebra.conf", "bgpd.conf", "bfdd.conf", "vtysh.conf"} {
		var b bytes.Buffer
		if err := templates.ExecuteTemplate(&b, name+".tmpl", c); err != nil {
			return nil, fmt.Errorf("configuration %s of %s: %w", name, router, err)
		}
		files = append(files, host.File{Path: "/etc/frr/" + name, Content: b.Bytes(), Mode: 0o640, Owner: "frr"})
	}
	return files, nil
}

func newConfig(t *topology.Topology, h topology.Host) config {
	settings := t.Spec.Routers
	c := config{
		Hostname:  h.Name,
		ASN:       h.ASN,
		RouterID:  h.RouterID,
		Keepalive: int(settings.Keepalive / time.Second),
		Hold:      int(settings.Hold / time.Second),
		Networks:  map[string][]netip.Prefix{},
		Settings:  settings,
		// With one ASN in all racks, a ToR would take another's routes for a loop.
		ASOverride: settings.IBGP && h.Role == topology.RoleSpine,
	}
	if t.Spec.Families != topology.IPv6 {
		c.Families = append(c.Families, "ipv4")
	}
	if t.Spec.Families != topology.IPv4 {
		c.Families = append(c.Families, "ipv6")
	}
	for _, i := range h.Interfaces {
		peer, _ := t.Host(i.Peer)
		if peer.Router() {
			c.Neighbors = append(c.Neighbors, neighbors(i, peer)...)
			continue
		}
		for _, p := range i.Addresses {
			c.Networks[familyOf(p.Addr())] = append(c.Networks[familyOf(p.Addr())], p.Masked())
		}
	}
	if h.Role == topology.RoleToR {
		c.Groups = groups(t, h)
	}
	return c
}

// neighbors are the sessions over one link, one a family.
func neighbors(own topology.Interface, peer topology.Host) []neighbor {
	var found []neighbor
	for _, remote := range peer.Interfaces {
		if remote.Link != own.Link {
			continue
		}
		for _, p := range remote.Addresses {
			found = append(found, neighbor{Address: p.Addr(), ASN: peer.ASN, Family: familyOf(p.Addr()), Name: peer.Name})
		}
	}
	return found
}

// groups are what a ToR accepts from the nodes of its rack.
func groups(t *topology.Topology, h topology.Host) []group {
	remote := "external"
	if t.Spec.Routers.IBGP {
		remote = "internal"
	}
	both := []string{"ipv4", "ipv6"}
	var found []group
	for _, p := range t.RackPrefixes(h.Rack) {
		family := familyOf(p.Addr())
		g := group{Name: "nodes-" + family, RemoteAS: remote, Ranges: []netip.Prefix{p}, Families: []string{family}}
		switch t.Spec.Routers.Session {
		case topology.OverIPv4:
			if family != "ipv4" {
				continue
			}
			g.Families = both
		case topology.OverIPv6:
			if family != "ipv6" {
				continue
			}
			g.Families, g.ExtendedNextHop = both, true
		case topology.PerFamily:
		}
		found = append(found, g)
	}
	return found
}

func familyOf(a netip.Addr) string {
	if a.Is4() {
		return "ipv4"
	}
	return "ipv6"
}

func contains(list []string, item string) bool {
	for _, have := range list {
		if have == item {
			return true
		}
	}
	return false
}

// Daemons are the names of a router's processes, in the order of their start.
func Daemons() []string { return []string{"zebra", "bgpd", "bfdd"} }

// Prepare is the command that makes the folders of the daemons, to be run
// in the host before they start.
func Prepare() []string {
	return []string{"install", "-d", "-o", "frr", "-g", "frr", "/run/frr", "/var/log/frr", "/var/lib/frr"}
}

// Process says how a daemon is run.
func Process(daemon string) host.Process {
	p := host.Process{
		Name:    daemon,
		Argv:    []string{"/usr/lib/frr/" + daemon, "-A", "127.0.0.1", "--log", "stdout", "-f", "/etc/frr/" + daemon + ".conf"},
		Log:     "/var/log/frr/" + daemon + ".log",
		Restart: true,
		Socket:  "/run/frr/" + daemon + ".vty",
	}
	if daemon == "zebra" {
		// A large receive buffer for the kernel's notices, as Debian starts it.
		p.Argv = append(p.Argv, "-s", "90000000")
	}
	return p
}
