// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/topology"
)

func TestFill(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(archive, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(archive))
	d := cluster.Default("x")
	d.Images, d.Manifest = []string{"image.tar"}, "m.yaml"
	f := upFlags{
		families: "ipv6", sessions: "ipv6", datapath: "system", settings: map[string]string{"tunnel.type": "vxlan"},
		linkMTU: map[string]int{"torA-spine": 1400}, podV4: "10.99.0.0/16", podV6: "fd99::/48",
	}
	if err := f.fill(&d); err != nil {
		t.Fatal(err)
	}
	if d.Network.Families != topology.IPv6 || d.Network.Routers.Session != topology.OverIPv6 || d.Network.LinkMTU["torA-spine"] != 1400 {
		t.Errorf("network %+v", d.Network)
	}
	if diff := cmp.Diff(map[string]string{"datapath": "system", "tunnel.type": "vxlan"}, d.Settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if got := fmt.Sprint(d.Network.Networks.PodIPv4, d.Network.Networks.PodIPv6); got != "10.99.0.0/16 fd99::/48" {
		t.Errorf("Pod networks %s", got)
	}
	// The control plane runs elsewhere, so paths must not depend on the folder.
	if d.Images[0] != archive || !filepath.IsAbs(d.Manifest) {
		t.Errorf("paths %q, %q", d.Images, d.Manifest)
	}
	d.Images = []string{"missing.tar"}
	if err := f.fill(&d); err == nil {
		t.Error("no such image: no error")
	}
	f.podV6 = "fd99::"
	if err := f.fill(&d); err == nil {
		t.Error("no prefix: no error")
	}
}

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		code int
		ok   bool
	}{
		{"exit", fmt.Errorf("wrapped: %w", &host.ExitError{Code: 7}), 7, true},
		{"signal", &host.ExitError{Code: -1, Signal: syscall.SIGINT}, 130, true},
		{"output to show", &host.ExitError{Code: 1, Output: "why"}, 0, false},
		{"other", errors.New("x"), 0, false},
	} {
		if code, ok := ExitCode(tc.err); code != tc.code || ok != tc.ok {
			t.Errorf("%s: %d, %t", tc.name, code, ok)
		}
	}
}

func TestCommandLine(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		want string // in output or error
	}{
		{"help lists failures", []string{"fail", "--help"}, "blackhole ROUTER PREFIX..."},
		{"no such lab", []string{"--name", "no-such-lab", "status"}, `no lab "no-such-lab" is up`},
		{"bad families", []string{"--name", "x", "up", "--families", "ipv5"}, `families: "ipv5"`},
		{"exec without command", []string{"exec", "n1"}, "requires at least 2 arg"},
		{"name", []string{"--name", "../x", "down"}, "no name of a lab"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := New()
			var out strings.Builder
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			cmd.SetArgs(tc.args)
			if err := cmd.ExecuteContext(t.Context()); err != nil {
				out.WriteString(err.Error())
			}
			if !strings.Contains(out.String(), tc.want) {
				t.Errorf("got %q, want %q in it", out.String(), tc.want)
			}
		})
	}
}
