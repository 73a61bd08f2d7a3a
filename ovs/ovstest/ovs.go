// SPDX-License-Identifier: Apache-2.0

package ovstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-net/waymark/ovs/flow"
)

// schema is where Debian's package puts the schema of the switch database.
const schema = "/usr/share/openvswitch/vswitch.ovsschema"

// Datapath types of a test bridge.
const (
	// DatapathDummy needs no privilege and moves no packets: for flows and
	// ofproto/trace.
	DatapathDummy = "dummy"
	// DatapathNetdev is the userspace datapath; it needs a network namespace
	// that the caller owns.
	DatapathNetdev = "netdev"
)

// OVS is a real Open vSwitch with a database, daemons and a run directory of
// its own. It ends with the test.
type OVS struct {
	t   testing.TB
	dir string

	mu       sync.Mutex
	database *daemon
	vswitchd *daemon
}

// StartOVS starts ovsdb-server and ovs-vswitchd in the network namespace of the
// calling process. The test fails when they are not installed.
func StartOVS(t testing.TB) *OVS {
	t.Helper()
	for _, name := range []string{"ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl", "ovs-appctl"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("Open vSwitch is needed for this test: %v", err)
		}
	}
	// t.TempDir is too long for the path of a socket.
	dir, err := os.MkdirTemp("", "wm-ovs")
	if err != nil {
		t.Fatal(err)
	}
	o := &OVS{t: t, dir: dir}
	t.Cleanup(o.cleanUp)
	o.run("ovsdb-tool", "create", o.path("conf.db"), schema)
	o.StartDatabase()
	o.run("ovs-vsctl", "--db="+o.DB(), "--no-wait", "init")
	o.StartVswitchd()
	return o
}

func (o *OVS) path(name string) string { return filepath.Join(o.dir, name) }

// DB is the address of the database, as in ovs-vsctl --db.
func (o *OVS) DB() string { return "unix:" + o.path("db.sock") }

// RunDir is the directory of the sockets, the logs and the database.
func (o *OVS) RunDir() string { return o.dir }

// Socket is the management socket of a bridge.
func (o *OVS) Socket(bridge string) string { return o.path(bridge + ".mgmt") }

// AddBridge adds a bridge that forwards nothing until it has flows.
func (o *OVS) AddBridge(bridge, datapath string) {
	o.t.Helper()
	o.Vsctl("add-br", bridge, "--", "set", "bridge", bridge, "datapath_type="+datapath, "fail_mode=secure")
}

// AddPort adds a port of a type with a fixed OpenFlow number. Type dummy goes
// with DatapathDummy.
func (o *OVS) AddPort(bridge, port, kind string, number uint32, options ...string) {
	o.t.Helper()
	args := []string{
		"add-port", bridge, port, "--", "set", "interface", port,
		"type=" + kind, fmt.Sprintf("ofport_request=%d", number),
	}
	o.Vsctl(append(args, options...)...)
}

// Vsctl runs ovs-vsctl and returns what it prints.
func (o *OVS) Vsctl(args ...string) string {
	o.t.Helper()
	return o.run("ovs-vsctl", append([]string{"--db=" + o.DB(), "--timeout=20"}, args...)...)
}

// Ofctl runs ovs-ofctl with OpenFlow 1.5.
func (o *OVS) Ofctl(args ...string) string {
	o.t.Helper()
	return o.run("ovs-ofctl", append([]string{"-O", "OpenFlow15"}, args...)...)
}

// Appctl runs a command of ovs-vswitchd.
func (o *OVS) Appctl(args ...string) string {
	o.t.Helper()
	return o.run("ovs-appctl", append([]string{"-t", o.path("vswitchd.ctl")}, args...)...)
}

// Flows returns the flows of a bridge in the order of flow.Compare.
func (o *OVS) Flows(bridge string) []flow.Flow {
	o.t.Helper()
	var flows []flow.Flow
	for line := range strings.Lines(o.Ofctl("dump-flows", "--no-stats", "--no-names", o.Socket(bridge))) {
		if !strings.Contains(line, "actions=") {
			continue
		}
		f, err := flow.ParseFlow(strings.TrimSpace(line))
		if err != nil {
			o.t.Fatal(err)
		}
		flows = append(flows, f)
	}
	flow.Sort(flows)
	return flows
}

// Dump is the flows of a bridge as sorted text without cookies, like
// Switch.Dump without groups.
func (o *OVS) Dump(bridge string) string {
	o.t.Helper()
	var b strings.Builder
	for _, f := range o.Flows(bridge) {
		f.Cookie = 0
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// StartDatabase starts ovsdb-server on the existing database.
func (o *OVS) StartDatabase() {
	o.t.Helper()
	d := o.start("ovsdb-server", o.path("conf.db"), "--remote=punix:"+o.path("db.sock"), "--unixctl="+o.path("ovsdb.ctl"))
	o.await(d, o.path("db.sock"))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.database = d
}

// StopDatabase kills ovsdb-server.
func (o *OVS) StopDatabase() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.database.stop()
}

// StartVswitchd starts ovs-vswitchd. Its bridges hold no flows.
func (o *OVS) StartVswitchd() {
	o.t.Helper()
	d := o.start("ovs-vswitchd", o.DB(), "--unixctl="+o.path("vswitchd.ctl"), "--enable-dummy", "--disable-system")
	o.await(d, o.path("vswitchd.ctl"))
	o.mu.Lock()
	defer o.mu.Unlock()
	o.vswitchd = d
}

// StopVswitchd kills ovs-vswitchd.
func (o *OVS) StopVswitchd() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.vswitchd.stop()
}

func (o *OVS) env() []string {
	return append(os.Environ(), "OVS_RUNDIR="+o.dir, "OVS_DBDIR="+o.dir, "OVS_LOGDIR="+o.dir, "OVS_SYSCONFDIR="+o.dir)
}

func (o *OVS) run(name string, args ...string) string {
	o.t.Helper()
	out, err := o.Try(name, args...)
	if err != nil {
		o.t.Fatal(err)
	}
	return out
}

// Try runs a program of Open vSwitch against this instance.
func (o *OVS) Try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = o.env()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// daemon is a child process that dies with the test process.
type daemon struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
	err  error
}

func (o *OVS) start(name string, args ...string) *daemon {
	o.t.Helper()
	log, err := os.OpenFile(o.path(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		o.t.Fatal(err)
	}
	d := &daemon{name: name, cmd: exec.Command(name, args...), log: log, done: make(chan struct{})}
	d.cmd.Env, d.cmd.Dir = o.env(), o.dir
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the thread that forked
		// ends, so this one stays until the daemon has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := d.cmd.Start()
		started <- err
		if err == nil {
			d.err = d.cmd.Wait()
		}
		close(d.done)
	}()
	if err := <-started; err != nil {
		o.t.Fatalf("start %s: %v", name, err)
	}
	return d
}

// await waits until the daemon answers on its socket.
func (o *OVS) await(d *daemon, socket string) {
	o.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if err := connectable(socket); err == nil {
			return
		} else if time.Now().After(deadline) {
			o.t.Fatalf("%s does not answer: %v\n%s", d.name, err, o.logOf(d.name))
		}
		select {
		case <-d.done:
			o.t.Fatalf("%s ended: %v\n%s", d.name, d.err, o.logOf(d.name))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// connectable tells whether something listens on a socket.
func connectable(socket string) error {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	return c.Close()
}

func (o *OVS) logOf(name string) string {
	b, err := os.ReadFile(o.path(name + ".log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (d *daemon) stop() {
	if d == nil {
		return
	}
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return
	}
	<-d.done
	_ = d.log.Close()
}

func (o *OVS) cleanUp() {
	if o.t.Failed() {
		o.t.Logf("ovs-vswitchd.log:\n%s", o.logOf("ovs-vswitchd"))
	}
	o.StopVswitchd()
	o.StopDatabase()
	if err := os.RemoveAll(o.dir); err != nil {
		o.t.Error(err)
	}
}
