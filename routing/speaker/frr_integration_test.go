// SPDX-License-Identifier: Apache-2.0

//go:build integration

package speaker

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/waymark-net/waymark/internal/testnet"
)

// frr is a router: zebra, bgpd and bfdd in a namespace with a directory of its own.
type frr struct {
	t   *testing.T
	ns  *testnet.Namespace
	dir string
}

func startFRR(t *testing.T, ns *testnet.Namespace, bgpd string) *frr {
	t.Helper()
	r := &frr{t: t, ns: ns, dir: filepath.Join("/run", "frr-"+ns.Name)}
	u, err := user.Lookup("frr")
	if err != nil {
		t.Fatalf("FRR is not installed: %v", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"zebra.conf": "", "bgpd.conf": bgpd, "bfdd.conf": "", "vtysh.conf": ""} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(r.dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	r.start("zebra")
	r.start("bfdd", "--bfdctl", filepath.Join(r.dir, "bfdd.sock"))
	r.start("bgpd")
	return r
}

func (r *frr) start(daemon string, args ...string) {
	r.t.Helper()
	file := func(ext string) string { return filepath.Join(r.dir, daemon+ext) }
	log, err := os.Create(file(".out"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	cmd := r.ns.Command(context.Background(), "/usr/lib/frr/"+daemon, append([]string{
		"-f", file(".conf"), "-i", file(".pid"), "-z", filepath.Join(r.dir, "zserv.api"),
		"--vty_socket", r.dir, "-P", "0", "--log", "stdout", "--log-level", "debug"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if r.t.Failed() {
			text, _ := os.ReadFile(file(".out"))
			r.t.Logf("%s of %s:\n%s", daemon, r.ns.Name, text)
		}
	})
	testnet.WaitFor(r.t, deadline, func() error {
		out, err := r.vtysh("-d", daemon, "-c", "show version")
		if err != nil {
			return fmt.Errorf("%s does not answer: %w: %s", daemon, err, out)
		}
		return nil
	})
}

func (r *frr) vtysh(args ...string) (string, error) {
	out, err := exec.Command("vtysh", append([]string{"--vty_socket", r.dir}, args...)...).CombinedOutput()
	return string(out), err
}

// show runs one command of the router's shell.
func (r *frr) show(daemon, command string) string {
	out, _ := r.vtysh("-d", daemon, "-c", command)
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

// drop has the router lose packets, without that a link goes down: all, or what
// rule matches.
func (r *frr) drop(rule string) {
	r.t.Helper()
	r.ns.Exec(r.t, "nft add table inet silence")
	for _, hook := range []string{"input", "output"} {
		r.ns.Exec(r.t, fmt.Sprintf("nft add chain inet silence %s { type filter hook %s priority 0 ; }", hook, hook))
		r.ns.Exec(r.t, fmt.Sprintf("nft add rule inet silence %s %s drop", hook, rule))
	}
}

func (r *frr) heal() { r.ns.Exec(r.t, "nft delete table inet silence") }
