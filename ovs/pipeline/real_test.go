// SPDX-License-Identifier: Apache-2.0

//go:build integration

package pipeline

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/ovs/flow"
)

// realOVS is an ovsdb-server and an ovs-vswitchd in a network namespace.
type realOVS struct {
	ns  *testnet.Namespace
	dir string
}

// startOVS starts both; they end with the test.
func startOVS(t *testing.T, ns *testnet.Namespace) *realOVS {
	t.Helper()
	o := &realOVS{ns: ns, dir: t.TempDir()}
	db := filepath.Join(o.dir, "conf.db")
	o.run(t, "ovsdb-tool", "create", db, "/usr/share/openvswitch/vswitch.ovsschema")
	o.daemon(t, "ovsdb-server", db, "--remote=punix:"+filepath.Join(o.dir, "db.sock"))
	testnet.WaitFor(t, 20*time.Second, func() error {
		_, err := os.Stat(filepath.Join(o.dir, "db.sock"))
		return err
	})
	o.vsctl(t, "--no-wait init")
	o.daemon(t, "ovs-vswitchd", "unix:"+filepath.Join(o.dir, "db.sock"))
	return o
}

func (o *realOVS) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := o.ns.Command(ctx, name, args...)
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+o.dir, "OVS_DBDIR="+o.dir, "OVS_LOGDIR="+o.dir)
	return cmd
}

func (o *realOVS) daemon(t *testing.T, name string, args ...string) {
	t.Helper()
	ctl := "--unixctl=" + filepath.Join(o.dir, name+".ctl")
	log := "--log-file=" + filepath.Join(o.dir, name+".log")
	cmd := o.command(t.Context(), name, append(args, ctl, log, "-vconsole:off", "--pidfile")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = cmd.Wait()
		if t.Failed() {
			text, err := os.ReadFile(filepath.Join(o.dir, name+".log"))
			t.Logf("log of %s (%v):\n%s", name, err, text)
		}
	})
}

func (o *realOVS) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := o.command(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// vsctl runs ovs-vsctl and waits until ovs-vswitchd has followed.
func (o *realOVS) vsctl(t *testing.T, line string) string {
	t.Helper()
	return o.run(t, "ovs-vsctl", append([]string{"--db=unix:" + filepath.Join(o.dir, "db.sock")}, strings.Fields(line)...)...)
}

// addFlows installs flows in br-int in one bundle.
func (o *realOVS) addFlows(t *testing.T, flows []flow.Flow) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flows")
	if err := os.WriteFile(path, []byte(text(flows)), 0o600); err != nil {
		t.Fatal(err)
	}
	o.run(t, "ovs-ofctl", "-O", "OpenFlow14", "--bundle", "add-flows", "br-int", path)
}

// trace runs ofproto/trace on a packet in br-int.
func (o *realOVS) trace(t *testing.T, packet string) string {
	t.Helper()
	return o.run(t, "ovs-appctl", "-t", filepath.Join(o.dir, "ovs-vswitchd.ctl"), "ofproto/trace", "br-int", packet)
}
