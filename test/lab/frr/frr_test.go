// SPDX-License-Identifier: Apache-2.0

package frr

import (
	"testing"

	"github.com/waymark-net/waymark/internal/testgolden"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// cases are the routers whose configuration is kept in testdata.
var cases = []struct {
	name   string
	router string
	edit   func(*topology.Spec)
}{
	{"tor", "torA", func(*topology.Spec) {}},
	{"spine", "spine", func(*topology.Spec) {}},
	{"tor-ipv4", "torB", func(s *topology.Spec) { s.Families = topology.IPv4 }},
	{"tor-ipv6", "torB", func(s *topology.Spec) { s.Families = topology.IPv6 }},
	{"tor-over-ipv4", "torA", func(s *topology.Spec) { s.Routers.Session = topology.OverIPv4 }},
	{"tor-over-ipv6", "torA", func(s *topology.Spec) { s.Routers.Session = topology.OverIPv6 }},
	{"tor-ibgp", "torA", func(s *topology.Spec) { s.Routers.IBGP = true }},
	{"spine-ibgp", "spine", func(s *topology.Spec) { s.Routers.IBGP = true }},
	{"tor-dual-homed", "torA2", func(s *topology.Spec) { s.DualHomed = true }},
	{"tor-options", "torA", func(s *topology.Spec) {
		s.Routers.Password, s.Routers.GTSM, s.Routers.BFD, s.Routers.DefaultRoute = "secret", true, true, true
	}},
}

func bgpd(t *testing.T, router string, edit func(*topology.Spec)) []byte {
	t.Helper()
	spec := topology.DefaultSpec()
	edit(&spec)
	topo, err := topology.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	files, err := Files(topo, router)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Path == "/etc/frr/bgpd.conf" {
			return f.Content
		}
	}
	t.Fatal("no bgpd.conf")
	return nil
}

func TestFiles(t *testing.T) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			testgolden.Compare(t, tc.name, string(bgpd(t, tc.router, tc.edit)))
		})
	}
}

func TestFilesOfNoRouter(t *testing.T) {
	topo, err := topology.New(topology.DefaultSpec())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"n1", "nobody"} {
		if _, err := Files(topo, name); err == nil {
			t.Errorf("Files of %s: no error", name)
		}
	}
}
