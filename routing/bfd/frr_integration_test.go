// SPDX-License-Identifier: Apache-2.0

//go:build integration

package bfd

import (
	"context"
	"encoding/json"
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
)

// deadline is generous: sessions come up at a packet a second.
const deadline = 60 * time.Second

// frr is a router: zebra and bfdd in a namespace with a directory of its own.
type frr struct {
	t   *testing.T
	ns  *testnet.Namespace
	dir string
}

func startFRR(t *testing.T, ns *testnet.Namespace, bfdd string) *frr {
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
	for name, text := range map[string]string{"zebra.conf": "", "bfdd.conf": bfdd, "vtysh.conf": ""} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(r.dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	r.start("zebra")
	r.start("bfdd", "--bfdctl", filepath.Join(r.dir, "bfdd.sock"))
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
			r.t.Logf("%s:\n%s", daemon, text)
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

// configure changes the only peer.
func (r *frr) configure(peer string, lines ...string) {
	r.t.Helper()
	args := []string{"-d", "bfdd", "-c", "configure terminal", "-c", "bfd", "-c", peer}
	for _, l := range lines {
		args = append(args, "-c", l)
	}
	if out, err := r.vtysh(args...); err != nil || strings.Contains(out, "%") {
		r.t.Fatalf("configuring FRR: %v: %s", err, out)
	}
}

// frrPeer is what FRR knows of a session; intervals are in milliseconds.
type frrPeer struct {
	Status   string `json:"status"`
	RemoteRx int    `json:"remote-receive-interval"`
	RemoteTx int    `json:"remote-transmit-interval"`
	Downs    int    `json:"session-down"`
}

func (r *frr) peer() (frrPeer, error) {
	var peers []frrPeer
	out, err := r.vtysh("-d", "bfdd", "-c", "show bfd peers json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &peers)
	}
	if err != nil || len(peers) != 1 {
		return frrPeer{}, fmt.Errorf("peers of FRR: %w: %s", err, out)
	}
	return peers[0], nil
}

// eventually waits until FRR sees the session so.
func (r *frr) eventually(what string, cond func(frrPeer) bool) {
	r.t.Helper()
	testnet.WaitFor(r.t, deadline, func() error {
		p, err := r.peer()
		if err == nil && !cond(p) {
			err = fmt.Errorf("%s: FRR has %+v", what, p)
		}
		return err
	})
}

// node is the engine under test.
type node struct {
	*Engine
	t     *testing.T
	tells chan Status
	stop  func()
}

func startNode(t *testing.T) *node {
	n := &node{t: t, tells: make(chan Status, 1000)}
	n.Engine = New(Params{OnState: func(_ string, s Status) { n.tells <- s }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	n.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return n
}

func (n *node) set(s Session) {
	n.t.Helper()
	if err := n.Set(n.t.Context(), []Session{s}); err != nil {
		n.t.Fatal(err)
	}
}

// await reads what is told until the session is so.
func (n *node) await(what string, cond func(Status) bool) Status {
	n.t.Helper()
	timeout := time.After(deadline)
	for {
		select {
		case s := <-n.tells:
			if cond(s) {
				return s
			}
		case <-timeout:
			n.t.Fatalf("%s: not within %v, have %+v, %+v", what, deadline, n.Status(), n.Engine.Counters())
		}
	}
}

// agreed is a session at full pace.
func agreed(s Status) bool {
	return s.State == Up && s.TxInterval == 50*ms && s.DetectionTime == 150*ms
}

func TestFRR(t *testing.T) {
	for _, test := range []struct {
		name, local, peer string
		iface             string
		multihop          bool
	}{
		{name: "IPv4", local: "192.0.2.1", peer: "192.0.2.2"},
		{name: "IPv6", local: "2001:db8::1", peer: "2001:db8::2"},
		{name: "link-local", local: "fe80::1", peer: "fe80::2", iface: "eth0"},
		{name: "multihop", local: "192.0.2.1", peer: "198.51.100.2", multihop: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			testnet.Run(t, func(t *testing.T, ns *testnet.Namespace) {
				line := "peer " + test.local
				if test.multihop {
					line += " multihop"
				}
				line += " local-address " + test.peer
				if test.iface != "" {
					line += " interface eth0"
				}
				router := topology(t, ns, test.multihop)
				r := startFRR(t, router, "bfd\n "+line+"\n  receive-interval 50\n  transmit-interval 50\n  detect-multiplier 3\n")
				against(t, ns, r, line, Session{
					Name: "router", Local: netip.MustParseAddr(test.local), Peer: netip.MustParseAddr(test.peer),
					Interface: test.iface, Multihop: test.multihop,
					DesiredMinTx: 50 * ms, RequiredMinRx: 50 * ms, DetectMult: 3,
				})
			})
		})
	}
}

// topology puts a router next to the node, or one hop behind a third.
func topology(t *testing.T, ns *testnet.Namespace, multihop bool) *testnet.Namespace {
	router := testnet.New(t, "router")
	if !multihop {
		testnet.Veth(t,
			testnet.End{NS: ns, Name: "eth0", Addrs: []string{"192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"}},
			testnet.End{NS: router, Name: "eth0", Addrs: []string{"192.0.2.2/24", "2001:db8::2/64", "fe80::2/64"}})
		return router
	}
	hop := testnet.New(t, "hop")
	testnet.Veth(t, testnet.End{NS: ns, Name: "eth0", Addrs: []string{"192.0.2.1/24"}},
		testnet.End{NS: hop, Name: "eth0", Addrs: []string{"192.0.2.254/24"}})
	testnet.Veth(t, testnet.End{NS: router, Name: "eth0", Addrs: []string{"198.51.100.2/24"}},
		testnet.End{NS: hop, Name: "eth1", Addrs: []string{"198.51.100.254/24"}})
	hop.Exec(t, "sysctl -w net.ipv4.ip_forward=1")
	ns.Exec(t, "ip route add 198.51.100.0/24 via 192.0.2.254")
	router.Exec(t, "ip route add 192.0.2.0/24 via 198.51.100.254")
	return router
}

// against takes one session through its life.
func against(t *testing.T, ns *testnet.Namespace, r *frr, line string, s Session) {
	n := startNode(t)
	stop := n.stop
	defer func() { stop() }()
	n.set(s)
	up := n.await("coming up", agreed)
	r.eventually("up", func(p frrPeer) bool { return p.Status == "up" && p.RemoteRx == 50 && p.RemoteTx == 50 })

	slower := s
	slower.DesiredMinTx, slower.RequiredMinRx = 400*ms, 400*ms
	n.set(slower)
	n.await("slower", func(s Status) bool { return s.TxInterval == 400*ms && s.DetectionTime == 1200*ms })
	r.eventually("slower", func(p frrPeer) bool { return p.RemoteRx == 400 && p.RemoteTx == 400 })
	n.set(s)
	back := n.await("faster", agreed)
	if p, err := r.peer(); err != nil || back.Downs != 0 || !back.Since.Equal(up.Since) || p.Downs != 0 {
		t.Fatalf("went down by a change of parameters: %+v, FRR: %+v, %v", back, p, err)
	}

	// Both ends hear nothing any more, and no link goes down.
	ns.Exec(t, "nft add table inet silence")
	ns.Exec(t, "nft add chain inet silence in { type filter hook input priority 0 ; }")
	ns.Exec(t, "nft add rule inet silence in udp dport { 3784, 4784 } drop")
	silent := time.Now()
	down := n.await("silence", func(s Status) bool { return s.State != Up })
	if took := down.Since.Sub(silent); took > 150*ms+100*ms {
		t.Errorf("silence was noticed after %v", took)
	}
	if down.Diagnostic != DiagDetectionExpired || down.RemoteState != Up {
		t.Errorf("silence: %+v", down)
	}
	r.eventually("silence", func(p frrPeer) bool { return p.Status != "up" })
	ns.Exec(t, "nft delete table inet silence")
	n.await("recovery", agreed)

	r.configure(line, "shutdown")
	admin := n.await("shutdown", func(s Status) bool { return s.State != Up })
	if admin.RemoteState != AdminDown || admin.Diagnostic != DiagNeighborSignaled {
		t.Errorf("the peer's shutdown: %+v", admin)
	}
	r.configure(line, "no shutdown")
	n.await("no shutdown", agreed)
	r.eventually("no shutdown", func(p frrPeer) bool { return p.Status == "up" })

	n.stop()
	stop = func() {}
	r.eventually("the end of Run", func(p frrPeer) bool { return p.Status == "down" })
}
