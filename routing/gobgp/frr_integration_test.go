// SPDX-License-Identifier: Apache-2.0

//go:build integration

package gobgp

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
)

// frr is a router: zebra and bgpd in a namespace with a directory of its own.
type frr struct {
	t    *testing.T
	ns   *testnet.Namespace
	dir  string
	cmds map[string]*exec.Cmd
}

func startFRR(t *testing.T, ns *testnet.Namespace, bgpd string) *frr {
	t.Helper()
	r := &frr{t: t, ns: ns, dir: filepath.Join("/run", "frr-"+ns.Name), cmds: map[string]*exec.Cmd{}}
	u, err := user.Lookup("frr")
	if err != nil {
		t.Fatalf("FRR is not installed: %v", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"zebra.conf": "hostname zebra\n", "bgpd.conf": "log timestamp precision 3\n" + bgpd, "vtysh.conf": ""} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(r.dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	for _, daemon := range []string{"zebra", "bgpd"} {
		r.start(daemon)
	}
	return r
}

func (r *frr) start(daemon string) {
	r.t.Helper()
	file := func(ext string) string { return filepath.Join(r.dir, daemon+ext) }
	log, err := os.Create(file(".out"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	cmd := r.ns.Command(context.Background(), "/usr/lib/frr/"+daemon,
		"-f", file(".conf"), "-i", file(".pid"), "-z", filepath.Join(r.dir, "zserv.api"),
		"--vty_socket", r.dir, "-P", "0", "--log", "stdout", "--log-level", "debug")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.cmds[daemon] = cmd
	r.t.Cleanup(func() {
		r.kill(daemon)
		if r.t.Failed() {
			text, _ := os.ReadFile(file(".out"))
			r.t.Logf("%s of %s:\n%s", daemon, r.ns.Name, text)
		}
	})
	poll(r.t, func() error {
		out, err := r.vtysh("-d", daemon, "-c", "show version")
		if err != nil {
			return fmt.Errorf("%s does not answer: %w: %s", daemon, err, out)
		}
		return nil
	})
}

// kill ends a daemon as a crash would.
func (r *frr) kill(daemon string) {
	if cmd := r.cmds[daemon]; cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		delete(r.cmds, daemon)
	}
}

// poll is testnet.WaitFor for conditions that start a program to be looked at.
func poll(t *testing.T, cond func() error) {
	t.Helper()
	var last error
	var next time.Time
	testnet.WaitFor(t, deadline, func() error {
		if now := time.Now(); now.After(next) {
			last, next = cond(), now.Add(150*time.Millisecond)
		}
		return last
	})
}

func (r *frr) vtysh(args ...string) (string, error) {
	out, err := exec.Command("vtysh", append([]string{"--vty_socket", r.dir}, args...)...).CombinedOutput()
	return string(out), err
}

// show runs one command of the router's shell.
func (r *frr) show(command string) string {
	out, _ := r.vtysh("-d", "bgpd", "-c", command)
	return out
}

// configure changes the router's running configuration.
func (r *frr) configure(lines ...string) {
	r.t.Helper()
	args := []string{"-d", "bgpd", "-c", "configure terminal"}
	for _, l := range lines {
		args = append(args, "-c", l)
	}
	if out, err := r.vtysh(args...); err != nil || strings.Contains(out, "%") {
		r.t.Fatalf("configuring FRR: %v: %s", err, out)
	}
}

// eventually waits until the output of a show command has all of the texts.
func (r *frr) eventually(command string, texts ...string) {
	r.t.Helper()
	poll(r.t, func() error {
		out := r.show(command)
		for _, text := range texts {
			if !strings.Contains(out, text) {
				return fmt.Errorf("%q not in %s:\n%s", text, command, out)
			}
		}
		return nil
	})
}

// withFRR runs a test on a link between the node (192.0.2.1, 2001:db8::1) and
// a router (192.0.2.2, 2001:db8::2).
func withFRR(t *testing.T, bgpd string, body func(t *testing.T, node *testnet.Namespace, r *frr)) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		router := testnet.New(t, "router")
		testnet.Veth(t,
			testnet.End{NS: node, Name: "eth0", Addrs: []string{"192.0.2.1/24", "2001:db8::1/64"}},
			testnet.End{NS: router, Name: "eth0", Addrs: []string{"192.0.2.2/24", "2001:db8::2/64"}})
		body(t, node, startFRR(t, router, bgpd))
	})
}

// frrConf is AS 65002 with one neighbour, in both families; extra lines go to
// the router, family lines to both address families.
func frrConf(neighbour string, remoteAS uint32, extra, family string) string {
	return fmt.Sprintf(`router bgp 65002
 bgp router-id 192.0.2.2
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor %[1]s remote-as %[2]d
 neighbor %[1]s timers connect 1
%[3]s
 address-family ipv4 unicast
  redistribute static
  network 10.10.2.0/24
  neighbor %[1]s activate
%[4]s
 exit-address-family
 address-family ipv6 unicast
  network fd10:0:0:2::/64
  neighbor %[1]s activate
%[4]s
 exit-address-family
 no bgp network import-check
`, neighbour, remoteAS, extra, family)
}

// nodeConf is the node in AS 65001 that announces one Pod CIDR a family.
func nodeConf(peers ...routing.Peer) routing.BGPConfig {
	for i := range peers {
		peers[i].Timers = routing.Timers{Hold: 9 * time.Second, ConnectRetry: 2 * time.Second}
	}
	return routing.BGPConfig{
		Speaker: routing.SpeakerConfig{
			ASN: 65001, RouterID: ip("192.0.2.1"),
			GracefulRestart: routing.GracefulRestart{Enabled: true, RestartTime: 60 * time.Second},
			MaximumPaths:    8,
		},
		Peers: peers,
		Advertisements: []routing.Advertisement{
			advertise("10.10.1.0/24", "192.0.2.1", "2001:db8::1"),
			advertise("fd10:0:0:1::/64", "192.0.2.1", "2001:db8::1"),
		},
		Scope: routing.ImportScope{
			ClusterCIDRs: []netip.Prefix{pfx("10.10.0.0/16"), pfx("fd10::/32")},
			Local: routing.Node{
				Name: "n1", Addresses: []netip.Addr{ip("192.0.2.1"), ip("2001:db8::1")},
				PodCIDRs: []netip.Prefix{pfx("10.10.1.0/24"), pfx("fd10:0:0:1::/64")},
			},
			Links: []routing.Link{{Name: "eth0", Prefixes: []netip.Prefix{pfx("192.0.2.1/24"), pfx("2001:db8::1/64")}}},
		},
	}
}
