// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kernel

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
)

// vswitch is Open vSwitch in the node of a test.
type vswitch struct {
	dir    string
	daemon *exec.Cmd
}

func newSwitch(t *testing.T) *vswitch {
	t.Helper()
	v := &vswitch{dir: t.TempDir()}
	db := filepath.Join(v.dir, "conf.db")
	if out, err := exec.Command("ovsdb-tool", "create", db, "/usr/share/openvswitch/vswitch.ovsschema").CombinedOutput(); err != nil {
		t.Fatalf("ovsdb-tool: %v\n%s", err, out)
	}
	v.spawn(t, "ovsdb-server", db, "--remote=punix:"+v.socket(), "--unixctl="+filepath.Join(v.dir, "ovsdb.ctl"))
	testnet.WaitFor(t, 10*time.Second, func() error {
		c, err := net.Dial("unix", v.socket())
		if err == nil {
			err = c.Close()
		}
		return err
	})
	v.vsctl(t, "--no-wait", "init")
	v.start(t)
	return v
}

func (v *vswitch) socket() string { return filepath.Join(v.dir, "db.sock") }

func (v *vswitch) spawn(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, append(args, "--log-file="+filepath.Join(v.dir, name+".log"))...)
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+v.dir, "OVS_LOGDIR="+v.dir, "OVS_DBDIR="+v.dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func (v *vswitch) start(t *testing.T) {
	t.Helper()
	v.daemon = v.spawn(t, "ovs-vswitchd", "unix:"+v.socket(), "--unixctl="+filepath.Join(v.dir, "vswitchd.ctl"))
}

// kill ends the daemon as a crash would.
func (v *vswitch) kill(t *testing.T) {
	t.Helper()
	if err := v.daemon.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = v.daemon.Wait()
}

func (v *vswitch) vsctl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ovs-vsctl", append([]string{"--db=unix:" + v.socket(), "--timeout=20"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("ovs-vsctl %v: %v\n%s", args, err, out)
	}
}
