// SPDX-License-Identifier: Apache-2.0

package config

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/routing"
)

const header = "apiVersion: config.waymark.io/v1alpha1\nkind: WaymarkConfiguration\n"

var comparePrefix = cmpopts.EquateComparable(netip.Prefix{})

func TestLoad(t *testing.T) {
	tests := []struct {
		name     string
		document string
		want     func(*Config)
	}{
		{"nothing stated", header, func(*Config) {}},
		{"null is not stated", header + "mode:\nbgp: {asn: null}\ntunnel: ~\n", func(*Config) {}},
		{"encap has no BGP by default", header + "mode: encap\n", func(c *Config) {
			c.Mode, c.BGP.Enabled = routing.ModeEncap, false
		}},
		{"encap with BGP when stated", header + "mode: encap\nbgp: {enabled: true}\n", func(c *Config) {
			c.Mode = routing.ModeEncap
		}},
		{"hybrid without BGP when stated", header + "mode: hybrid\nbgp: {enabled: false}\n", func(c *Config) {
			c.Mode, c.BGP.Enabled = routing.ModeHybrid, false
		}},
		{"no Services", header + "services: {mode: Disabled}\n", func(c *Config) { c.Services.Mode = ServicesDisabled }},
		{"everything", header + `
mode: hybrid
datapath: netdev
tunnel: {type: vxlan, port: 8472, underlay: ipv6}
mtu: 9001
snat: Never
nonMasqueradeCIDRs: [192.0.2.0/24, "2001:db8::/32"]
trustDefaultRoute: true
uplink: {interface: eth0.100}
bgp:
  enabled: true
  asn: 4200000001
  asnNodeLabel: example.com/asn
  listenPort: -1
  gracefulRestart: {enabled: false, restartTime: 5m}
  maximumPaths: 4
  drain: {onCordon: false, time: 1m}
hostFirewall: iptables
networkPolicy: {podTimeout: 1m, withoutController: Wait, logDenied: true}
services: {mode: ClusterIPOnly, nodePortAddresses: [192.0.2.0/24, "2001:db8::/32"]}
`, func(c *Config) {
			*c = Config{
				Mode:               routing.ModeHybrid,
				Datapath:           DatapathNetdev,
				Tunnel:             Tunnel{Type: encap.VXLAN, Port: 8472, Underlay: encap.UnderlayIPv6},
				MTU:                9001,
				SNAT:               SNATNever,
				NonMasqueradeCIDRs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
				TrustDefaultRoute:  true,
				Uplink:             Uplink{Interface: "eth0.100"},
				BGP: BGP{
					Enabled: true, ASN: 4200000001, ASNNodeLabel: "example.com/asn", ListenPort: -1,
					GracefulRestart: GracefulRestart{RestartTime: 5 * time.Minute}, MaximumPaths: 4,
					Drain: Drain{Time: time.Minute},
				},
				HostFirewall:  HostFirewallIPTables,
				NetworkPolicy: NetworkPolicy{PodTimeout: time.Minute, WithoutController: WithoutControllerWait, LogDenied: true},
				Services: Services{
					Mode:              ServicesClusterIPOnly,
					NodePortAddresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
				},
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Load([]byte(test.document), routing.IPv4, routing.IPv6)
			if err != nil {
				t.Fatalf("Load: %v", err)
			}
			want := Default()
			test.want(want)
			if diff := cmp.Diff(want, got, comparePrefix); diff != "" {
				t.Errorf("Load (-want +got):\n%s", diff)
			}
		})
	}
}

var update = flag.Bool("update", false, "write the expected errors into testdata/errors")

// rewriteErrors replaces the expectations of a document by err.
func rewriteErrors(t *testing.T, file, document string, err error) {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(document) {
		if !strings.HasPrefix(line, "# error: ") {
			b.WriteString(line)
		}
	}
	for line := range strings.Lines(err.Error()) {
		b.WriteString("# error: " + strings.TrimSpace(line) + "\n")
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestLoadErrors checks, for each testdata/errors/NAME.yaml, that the errors
// are those in its comments "# error: …".
func TestLoadErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents in testdata/errors: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			document, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(document)) {
				if text, ok := strings.CutPrefix(line, "# error: "); ok {
					want = append(want, strings.TrimSpace(text))
				}
			}
			got, err := Load(document, routing.IPv4, routing.IPv6)
			if err == nil || got != nil {
				t.Fatalf("Load = %v, %v; want nil and an error", got, err)
			}
			if *update {
				rewriteErrors(t, file, string(document), err)
				return
			}
			if diff := cmp.Diff(want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMTUDependsOnFamilies(t *testing.T) {
	document := []byte(header + "mtu: 1000\n")
	if _, err := Load(document, routing.IPv4); err != nil {
		t.Errorf("MTU 1000 in an IPv4 cluster: %v", err)
	}
	if _, err := Load(document, routing.IPv6); err == nil {
		t.Error("MTU 1000 in an IPv6 cluster was accepted")
	}
	c := Default()
	c.MTU = 1000
	if err := c.Validate(routing.IPv6); err == nil {
		t.Error("Validate accepted MTU 1000 in an IPv6 cluster")
	}
}

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(routing.IPv4, routing.IPv6); err != nil {
		t.Error(err)
	}
}

func TestNodePortAt(t *testing.T) {
	net4, host4, net6 := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.1/32"), netip.MustParsePrefix("2001:db8::/64")
	for _, tc := range []struct {
		named   []netip.Prefix
		address string
		want    bool
	}{
		{nil, "192.0.2.1", true},
		{nil, "2001:db8::1", true},
		{[]netip.Prefix{net4}, "192.0.2.1", true},
		{[]netip.Prefix{net4}, "198.51.100.1", false},
		{[]netip.Prefix{net4, host4}, "198.51.100.1", true},
		{[]netip.Prefix{net4}, "2001:db8:9::1", true}, // no network of this family is named
		{[]netip.Prefix{net4, net6}, "2001:db8:9::1", false},
		{[]netip.Prefix{net6}, "127.0.0.1", true},
	} {
		if got := (Services{NodePortAddresses: tc.named}).NodePortAt(netip.MustParseAddr(tc.address)); got != tc.want {
			t.Errorf("NodePorts at %s with %v: %t, want %t", tc.address, tc.named, got, tc.want)
		}
	}
}

func TestNodeASN(t *testing.T) {
	tests := []struct {
		name   string
		label  string
		labels map[string]string
		want   uint32
		wrong  bool
	}{
		{name: "no label configured", want: 64512},
		{name: "node has no such label", label: "asn", labels: map[string]string{"other": "1"}, want: 64512},
		{name: "label wins", label: "asn", labels: map[string]string{"asn": "4200000000"}, want: 4200000000},
		{name: "not a number", label: "asn", labels: map[string]string{"asn": "AS1"}, wrong: true},
		{name: "reserved", label: "asn", labels: map[string]string{"asn": "23456"}, wrong: true},
		{name: "too large", label: "asn", labels: map[string]string{"asn": "4294967296"}, wrong: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := BGP{ASN: 64512, ASNNodeLabel: test.label}.NodeASN(test.labels)
			if got != test.want || (err != nil) != test.wrong {
				t.Errorf("NodeASN = %d, %v; want %d, error %t", got, err, test.want, test.wrong)
			}
		})
	}
}

// FuzzLoad checks that no document can crash Load, that an accepted one is
// valid, and that every error fits on one line of an Event.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/errors/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		document, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(document)
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		c, err := Load(document, routing.IPv4, routing.IPv6)
		if (c == nil) != (err != nil) {
			t.Fatalf("Load = %v, %v", c, err)
		}
		if err == nil {
			if err := c.Validate(routing.IPv4, routing.IPv6); err != nil {
				t.Fatalf("accepted, but invalid: %v", err)
			}
		}
	})
}
