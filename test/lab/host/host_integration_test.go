// SPDX-License-Identifier: Apache-2.0

//go:build integration

package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// greeter, in the environment, makes the test program a server that says hi.
const greeter = "WAYMARK_TEST_GREETER"

func TestMain(m *testing.M) {
	Main()
	if address := os.Getenv(greeter); address != "" {
		greet(address)
	}
	os.Exit(m.Run())
}

func greet(address string) {
	listener, err := net.Listen("tcp", address)
	for err == nil {
		var conn net.Conn
		if conn, err = listener.Accept(); err == nil {
			_, _ = conn.Write([]byte("hi"))
			_ = conn.Close()
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

func testSpec(t *testing.T) Spec {
	t.Helper()
	lab := fmt.Sprintf("t%d", time.Now().UnixNano()%1e9)
	t.Cleanup(func() {
		if err := Cleanup(context.Background(), lab); err != nil {
			t.Errorf("Cleanup: %v", err)
		}
		assertNothingLeft(t, lab)
	})
	return Spec{Lab: lab, Name: "h1", StateDir: t.TempDir(), DataDir: t.TempDir()}
}

func assertNothingLeft(t *testing.T, lab string) {
	t.Helper()
	pids, err := initPIDs(lab, "")
	if err != nil || len(pids) > 0 {
		t.Errorf("inits left: %v, %v", pids, err)
	}
	for _, pattern := range []string{"/run/netns/" + netnsPrefix(lab) + "*", "/sys/fs/cgroup/*/waymark-lab/" + lab, "/sys/fs/cgroup/waymark-lab/" + lab} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || bytes.Contains(mounts, []byte(netnsPrefix(lab))) {
		t.Errorf("mounts left (%v)", err)
	}
}

func start1(t *testing.T, spec Spec) *Host {
	t.Helper()
	h, err := Start(t.Context(), spec)
	if err != nil {
		log, _ := os.ReadFile(LogPath(spec.StateDir))
		t.Fatalf("Start: %v\n%s", err, log)
	}
	return h
}

func TestPrivateHost(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	spec.PrivateRoot, spec.PrivateCgroup = true, true
	spec.Files = []File{{Path: "/etc/waymark-test/file", Content: []byte("hello\n"), Mode: 0o600}}
	spec.Sysctls = []Sysctl{{Key: "net/ipv4/ip_forward", Value: "1"}, {Key: "net/no/such/key", Value: "1"}}
	spec.Shadows = []string{"kernel/panic"}
	h := start1(t, spec)

	for _, tc := range []struct {
		name, script, want string
	}{
		{"file", "cat /etc/waymark-test/file", "hello\n"},
		{"hostname", "hostname", "h1\n"},
		{"sysctl", "cat /proc/sys/net/ipv4/ip_forward", "1\n"},
		{"pid namespace", "cat /proc/1/cmdline | tr '\\0' ' ' | cut -d' ' -f1", InitName + "\n"},
		{"only lo", "ls /sys/class/net", "lo\n"},
		{"cgroup root", "cut -d: -f3 /proc/1/cgroup | grep -vE '^/(init)?$' || echo own", "own\n"},
		{"run is own", "ls /run", "lock\nnetns\nwaymark-lab-sysctl\n"},
		{"shadow", "echo 77 > /proc/sys/kernel/panic; cat /proc/sys/kernel/panic", "77\n"},
	} {
		got, err := h.Output(t.Context(), nil, "sh", "-c", tc.script)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	for _, path := range []string{"/etc/waymark-test", "/opt/waymark-lab"} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s appeared on the machine (%v)", path, err)
		}
	}
	if value, err := os.ReadFile("/proc/sys/kernel/panic"); err != nil || string(value) == "77\n" {
		t.Errorf("kernel.panic of the machine is %q, %v", value, err)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	h := start1(t, testSpec(t))

	got, err := h.Output(t.Context(), strings.NewReader("from stdin"), "cat")
	if err != nil || got != "from stdin" {
		t.Errorf("cat: %q, %v", got, err)
	}
	_, err = h.Output(t.Context(), nil, "sh", "-c", "echo why >&2; exit 7")
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || exit.Output != "why" {
		t.Errorf("exit: %v", err)
	}
	if _, err := h.Output(t.Context(), nil, "no-such-program"); err == nil {
		t.Error("no-such-program: no error")
	}
	// A canceled context kills the command; what it left in the background
	// does not hold the caller.
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := h.Run(ctx, Cmd{Argv: []string{"sleep", "1000"}, Stdout: io.Discard}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("sleep: %v", err)
	}
	if out, err := h.Output(t.Context(), nil, "sh", "-c", "sleep 1000 & echo started"); err != nil || out != "started\n" {
		t.Errorf("background: %q, %v", out, err)
	}
}

func TestSupervision(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	h := start1(t, spec)
	log := filepath.Join(spec.DataDir, "log/p.log")
	p := Process{Name: "p", Argv: []string{"sh", "-c", "echo run; sleep 1000"}, Log: log, Restart: true}
	if err := h.StartProcess(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := h.StartProcess(t.Context(), p); err == nil {
		t.Error("second start: no error")
	}
	status, err := h.Processes(t.Context())
	if err != nil || len(status) != 1 || status[0].PID == 0 {
		t.Fatalf("Processes: %+v, %v", status, err)
	}
	if _, err := h.Output(t.Context(), nil, "sh", "-c", fmt.Sprintf("kill -9 %d", status[0].PID)); err != nil {
		t.Fatal(err)
	}
	for status[0].Restarts == 0 || status[0].PID == 0 {
		if status, err = h.Processes(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if status[0].Exit != "killed by killed" {
		t.Errorf("Exit = %q", status[0].Exit)
	}
	if err := h.StopProcess(t.Context(), "p", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	status, err = h.Processes(t.Context())
	if err != nil || status[0].PID != 0 || status[0].Exit != "killed by terminated" {
		t.Errorf("after stop: %+v, %v", status, err)
	}
	if err := h.StartProcess(t.Context(), p); err != nil {
		t.Errorf("start after stop: %v", err)
	}
	ends := Process{Name: "ends", Argv: []string{"true"}, Log: log, Socket: "/no/such/socket"}
	if err := h.StartProcess(t.Context(), ends); err == nil || !strings.Contains(err.Error(), "exit status 0") {
		t.Errorf("ends: %v", err)
	}
}

func TestDialContext(t *testing.T) {
	t.Parallel()
	h := start1(t, testSpec(t))
	if _, err := h.Output(t.Context(), nil, "ip", "link", "set", "lo", "up"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.DialContext(t.Context(), "tcp", "127.0.0.1:7"); err == nil {
		t.Error("dial to nobody: no error")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := Process{
		Name: "server", Restart: true, Log: filepath.Join(t.TempDir(), "server.log"),
		Argv: []string{program}, Env: []string{greeter + "=127.0.0.1:7"},
	}
	if err := h.StartProcess(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for len(got) == 0 && t.Context().Err() == nil {
		conn, err := h.DialContext(t.Context(), "tcp", "127.0.0.1:7")
		if err != nil {
			continue
		}
		got, err = io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	if string(got) != "hi" {
		t.Errorf("got %q", got)
	}
}

func TestKillAndStartAgain(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	spec.PrivateRoot = true
	h := start1(t, spec)
	if _, err := h.Output(t.Context(), nil, "sh", "-c", "echo kept > /var/lib/disk; echo gone > /run/memory"); err != nil {
		t.Fatal(err)
	}
	if err := Kill(t.Context(), spec.Lab, spec.Name); err != nil {
		t.Fatal(err)
	}
	if err := h.Ping(t.Context()); err == nil {
		t.Error("killed host answers")
	}
	h = start1(t, spec)
	if out, err := h.Output(t.Context(), nil, "sh", "-c", "cat /var/lib/disk; ls /run/memory 2>/dev/null || true"); err != nil || out != "kept\n" {
		t.Errorf("after restart: %q, %v", out, err)
	}
}

// What a kubelet does: cgroups below the host's own, with memory limits, and
// processes in them, on both versions of cgroups.
const useCgroups = `set -e
cd /sys/fs/cgroup
if [ -e cgroup.controllers ]; then
	mkdir -p kubepods/pod
	echo +memory +pids > kubepods/cgroup.subtree_control
	echo 64M > kubepods/pod/memory.max
	sleep 100 & echo $! > kubepods/pod/cgroup.procs
else
	mkdir -p memory/kubepods/pod cpuset/kubepods
	echo 64M > memory/kubepods/pod/memory.limit_in_bytes
	sleep 100 & echo $! > memory/kubepods/pod/cgroup.procs
fi
grep -o /kubepods/pod /proc/$!/cgroup
`

func TestCgroupsInHost(t *testing.T) {
	t.Parallel()
	spec := testSpec(t)
	spec.PrivateRoot, spec.PrivateCgroup = true, true
	h := start1(t, spec)
	if out, err := h.Output(t.Context(), nil, "sh", "-c", useCgroups); err != nil || out != "/kubepods/pod\n" {
		t.Errorf("%q, %v", out, err)
	}
}
