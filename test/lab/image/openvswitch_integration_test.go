// SPDX-License-Identifier: Apache-2.0

//go:build integration

package image

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// unpack builds the product's image and lays its files out in a directory.
func unpack(t *testing.T) string {
	t.Helper()
	images, err := Build(t.Context(), Options{Source: "../../..", Progress: func(step string) { t.Log(step) }})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run(t, "tar", "-C", dir, "-xf", images[0].Archive)
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest []struct{ Layers []string }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, layer := range manifest[0].Layers {
		run(t, "tar", "-C", root, "-xf", filepath.Join(dir, layer))
	}
	return root
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// container is a program of the image in namespaces of its own, as PID 1 of
// them, with the image's files shared between all.
type container struct {
	cmd    *exec.Cmd
	output *buffer
	done   chan struct{}
	err    error // once done is closed
}

type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func start(t *testing.T, root string, argv ...string) *container {
	t.Helper()
	const script = `mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"`
	cmd := exec.Command("sh", append([]string{"-c", script, root}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC, Unshareflags: syscall.CLONE_NEWNS,
		Pdeathsig: syscall.SIGKILL,
	}
	c := &container{cmd: cmd, output: &buffer{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = c.output, c.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.err = cmd.Wait()
		close(c.done)
	}()
	t.Cleanup(func() { c.end(t, syscall.SIGKILL) })
	return c
}

// end signals the program and waits until it is gone.
func (c *container) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	_ = c.cmd.Process.Signal(signal)
	select {
	case <-c.done:
	case <-time.After(30 * time.Second):
		t.Errorf("%v does not end at %s:\n%s", c.cmd.Args, signal, c.output)
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// eventually tries a command in the image until it succeeds.
func eventually(t *testing.T, root string, argv ...string) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		out, err := exec.Command("chroot", append([]string{root}, argv...)...).CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// up waits until both daemons answer their probes and carry out a change.
func up(t *testing.T, root, bridge string) {
	t.Helper()
	for _, daemon := range []string{"ovsdb-server", "ovs-vswitchd"} {
		eventually(t, root, "ovs-appctl", "-T", "5", "-t", "/var/run/openvswitch/"+daemon+".ctl", "version")
	}
	eventually(t, root, "ovs-vsctl", "--timeout=30", "--may-exist", "add-br", bridge,
		"--", "set", "bridge", bridge, "datapath_type=netdev")
	eventually(t, root, "ovs-ofctl", "dump-flows", bridge)
}

func TestImage(t *testing.T) {
	root := unpack(t)

	t.Run("programs are static", func(t *testing.T) {
		for _, name := range []string{
			"bin/waymark-agent", "bin/waymark-speaker", "bin/waymark-controller",
			"lib/waymark/cni/waymark-cni", "lib/waymark/cni/portmap", "lib/waymark/cni/bandwidth", "lib/waymark/cni/loopback",
		} {
			file, err := elf.Open(filepath.Join(root, "usr/local", name))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
				t.Errorf("%s needs %v (%v)", name, libraries, err)
			}
			file.Close()
		}
	})

	t.Run("tools", func(t *testing.T) {
		for _, name := range []string{"nft", "iptables", "ip", "conntrack", "ethtool", "swanctl", "tcpdump", "modprobe"} {
			run(t, "chroot", root, "which", name)
		}
	})

	t.Run("Open vSwitch", func(t *testing.T) { testOpenVSwitch(t, root) })
}

func testOpenVSwitch(t *testing.T, root string) {
	database := filepath.Join(root, "var/lib/waymark/openvswitch/conf.db")
	// The daemon first: it waits for the database.
	vswitchd := start(t, root, "waymark-vswitchd")
	ovsdb := start(t, root, "waymark-ovsdb")
	up(t, root, "br-a")

	// A second server leaves the first one alone.
	second := start(t, root, "waymark-ovsdb")
	<-second.done
	if second.err == nil || !strings.Contains(second.output.String(), "another ovsdb-server answers") {
		t.Errorf("a second server: %v\n%s", second.err, second.output)
	}
	up(t, root, "br-a")

	// Killed, they leave sockets and pidfiles behind, and start again.
	ovsdb.end(t, syscall.SIGKILL)
	vswitchd.end(t, syscall.SIGKILL)
	ovsdb, vswitchd = start(t, root, "waymark-ovsdb"), start(t, root, "waymark-vswitchd")
	up(t, root, "br-b")
	if bridges := run(t, "chroot", root, "ovs-vsctl", "list-br"); bridges != "br-a\nbr-b\n" {
		t.Errorf("bridges after a restart: %q", bridges)
	}

	// One alone can be restarted, and both end at SIGTERM.
	ovsdb.end(t, syscall.SIGTERM)
	ovsdb = start(t, root, "waymark-ovsdb")
	up(t, root, "br-b")
	vswitchd.end(t, syscall.SIGTERM)
	vswitchd = start(t, root, "waymark-vswitchd")
	up(t, root, "br-b")
	if !strings.Contains(vswitchd.output.String(), "bridge br-b: using datapath ID") {
		t.Errorf("the log is not on standard error:\n%s", vswitchd.output)
	}

	// A database that cannot be read is set aside.
	ovsdb.end(t, syscall.SIGTERM)
	if err := os.WriteFile(database, []byte("OVSDB JSON 7 0000\n{]"), 0o640); err != nil {
		t.Fatal(err)
	}
	ovsdb = start(t, root, "waymark-ovsdb")
	up(t, root, "br-c")
	if bridges := run(t, "chroot", root, "ovs-vsctl", "list-br"); bridges != "br-c\n" {
		t.Errorf("bridges in an empty database: %q", bridges)
	}
	if _, err := os.Stat(database + ".unreadable"); err != nil {
		t.Error(err)
	}

	// A database of another Open vSwitch is converted, with what it holds.
	ovsdb.end(t, syscall.SIGTERM)
	convertToOlder(t, root, database)
	ovsdb = start(t, root, "waymark-ovsdb")
	up(t, root, "br-c")
	if !strings.Contains(ovsdb.output.String(), "converting /var/lib/waymark/openvswitch/conf.db from schema 8.0.0") {
		t.Errorf("no conversion:\n%s", ovsdb.output)
	}
}

// convertToOlder gives the database a schema that lacks something.
func convertToOlder(t *testing.T, root, database string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "usr/share/openvswitch/vswitch.ovsschema"))
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	schema["version"] = "8.0.0"
	delete(schema, "cksum")
	tables := schema["tables"].(map[string]any)
	delete(tables["Bridge"].(map[string]any)["columns"].(map[string]any), "mcast_snooping_enable")
	if text, err = json.Marshal(schema); err != nil {
		t.Fatal(err)
	}
	older := filepath.Join(t.TempDir(), "older.ovsschema")
	if err := os.WriteFile(older, text, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "ovsdb-tool", "convert", database, older).CombinedOutput(); err != nil {
		t.Fatalf("convert: %v\n%s", err, out)
	}
}
