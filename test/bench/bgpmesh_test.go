// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/gobgp"
	"github.com/waymark-net/waymark/test/report"
)

var bgpSpeakers = flag.Int("speakers", 100, "nodes' speakers in one process, at most 200")

// meshKind is a way in which speakers hear of each other.
type meshKind struct {
	name string
	// router is the ASN of the router that all peer with; 0: with each other.
	router uint32
	// reflects says that it is a route reflector.
	reflects bool
}

var meshKinds = []meshKind{
	{"by a ToR", serverASN, false},
	{"by a route reflector", nodeASN, true},
	{"in a mesh", 0, false},
}

var (
	torAddr  = netip.MustParseAddr("172.31.255.1")
	torAddr6 = netip.MustParseAddr("fd31::ff")
)

// node is one of many speakers.
type node struct {
	speaker *gobgp.Speaker
	addr    netip.Addr
	addr6   netip.Addr
	// learned has the number of the routes that were learned last.
	learned chan int
}

// measureConvergence has many speakers announce a prefix of each family, and then
// one of them another one. The first takes the sessions with it.
func measureConvergence(t *testing.T, ns, tor *testnet.Namespace, kind meshKind) []report.Row {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bgpPatience)
	defer cancel()
	n := *bgpSpeakers
	nodes := make([]node, n)
	for i := range nodes {
		nodes[i] = node{
			addr: netip.AddrFrom4([4]byte{172, 31, 0, byte(1 + i)}), addr6: netip.MustParseAddr(fmt.Sprintf("fd31::%x", 0x100+i)),
			learned: make(chan int, 1),
		}
		ns.Exec(t, fmt.Sprintf("ip address replace %s/16 dev eth0", nodes[i].addr))
		ns.Exec(t, fmt.Sprintf("ip address replace %s/64 dev eth0 nodad", nodes[i].addr6))
	}
	if kind.router != 0 {
		defer startRouter(t, tor, kind)()
	}
	before := resident(t)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, n)
	for i := range nodes {
		l := learner{events: make(chan routing.PathEvent, 1)}
		nodes[i].speaker = gobgp.New(gobgp.Params{OnRoutes: func(e routing.PathEvent) {
			l.learned(e)
			select {
			case <-nodes[i].learned:
			default:
			}
			nodes[i].learned <- len(e.Routes)
		}})
		go func() { ended <- nodes[i].speaker.Run(running) }()
	}
	defer func() {
		stop()
		for range n {
			<-ended
		}
	}()
	row := func(what string, begun time.Time, err error) report.Row {
		r := report.Measure(fmt.Sprintf("%d speakers %s: %s", n, kind.name, what), time.Since(begun).Seconds(), "s")
		if err != nil {
			r.Note = err.Error()
		}
		return r
	}
	prefixes := nodePrefixes(n + 1)
	begun := time.Now()
	for i := range nodes {
		if err := nodes[i].speaker.Set(ctx, kind.config(nodes, i, prefixes[2*i:2*i+2])); err != nil {
			t.Fatal(err)
		}
	}
	err := await(ctx, nodes, func(int) int { return 2 * (n - 1) })
	rows := []report.Row{row("from nothing to all routes", begun, err)}
	rows = append(rows, report.Measure(fmt.Sprintf("%d speakers %s: memory of one", n, kind.name), float64(resident(t)-before)/(1<<20)/float64(n), "MiB"))
	if err != nil {
		return rows
	}
	begun = time.Now()
	more := append(prefixes[0:2:2], prefixes[2*n:]...)
	if err := nodes[0].speaker.Set(ctx, kind.config(nodes, 0, more)); err != nil {
		t.Fatal(err)
	}
	err = await(ctx, nodes, func(i int) int {
		if i == 0 {
			return 2 * (n - 1)
		}
		return 2 * n
	})
	return append(rows, row("a node's new prefixes at all others", begun, err))
}

// config of the i-th of the nodes.
func (k meshKind) config(nodes []node, i int, prefixes []netip.Prefix) routing.BGPConfig {
	own := nodes[i]
	config := routing.BGPConfig{
		Speaker: speakerConfig(nodeASN, own.addr),
		Scope: routing.ImportScope{
			ClusterCIDRs: clusterCIDRs,
			// A router tells each also of its own.
			Local: routing.Node{Name: own.addr.String(), Addresses: []netip.Addr{own.addr, own.addr6}, PodCIDRs: prefixes},
		},
	}
	if k.router != 0 {
		p := bgpPeer("router", k.router, torAddr, own.addr, 0)
		p.Port = 179
		config.Peers = append(config.Peers, p)
	} else {
		for j, other := range nodes {
			if j != i {
				config.Peers = append(config.Peers, bgpPeer(fmt.Sprintf("n%03d", j), nodeASN, other.addr, own.addr, 0))
			}
		}
	}
	for _, p := range prefixes {
		config.Advertisements = append(config.Advertisements, routing.Advertisement{Prefix: p, NextHops: []netip.Addr{own.addr, own.addr6}})
	}
	return config
}

// await returns once every node has learned as many routes as it should. What a
// node said last stays for the next await.
func await(ctx context.Context, nodes []node, want func(i int) int) error {
	missing, least := 0, 0
	for i, n := range nodes {
		for have, done := 0, false; !done; {
			select {
			case have = <-n.learned:
				done = have == want(i)
			case <-ctx.Done():
				if missing == 0 || have < least {
					least = have
				}
				missing++
				done = true
			}
			if done && ctx.Err() == nil {
				select {
				case n.learned <- have:
				default:
				}
			}
		}
	}
	if missing > 0 {
		return fmt.Errorf("%d of %d speakers had not all routes after %s, one of them %d", missing, len(nodes), bgpPatience, least)
	}
	return nil
}

// startRouter starts FRR in the namespace of the ToR, with every node as a peer
// that it need not know, until stop is called.
func startRouter(t *testing.T, tor *testnet.Namespace, kind meshKind) (stop func()) {
	t.Helper()
	tor.Exec(t, fmt.Sprintf("ip address replace %s/16 dev eth0", torAddr))
	tor.Exec(t, fmt.Sprintf("ip address replace %s/64 dev eth0 nodad", torAddr6))
	reflects := ""
	if kind.reflects {
		reflects = "  neighbor nodes route-reflector-client\n"
	}
	conf := fmt.Sprintf(`router bgp %d
 bgp router-id %s
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp listen limit 500
 neighbor nodes peer-group
 neighbor nodes remote-as %d
 bgp listen range 172.31.0.0/24 peer-group nodes
 address-family ipv4 unicast
  neighbor nodes activate
%s exit-address-family
 address-family ipv6 unicast
  neighbor nodes activate
%s exit-address-family
`, kind.router, torAddr, nodeASN, reflects, reflects)
	owner, err := user.Lookup("frr")
	if err != nil {
		t.Fatalf("FRR is not installed: %v", err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	gid, _ := strconv.Atoi(owner.Gid)
	dir, err := os.MkdirTemp("/run", "frr-bench-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	err = errors.Join(os.Chown(dir, uid, gid), os.Chmod(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "zebra.conf"), nil, 0o644), os.WriteFile(filepath.Join(dir, "bgpd.conf"), []byte(conf), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	var daemons []*exec.Cmd
	for _, daemon := range []string{"zebra", "bgpd"} {
		file := func(ext string) string { return filepath.Join(dir, daemon+ext) }
		cmd := tor.Command(context.Background(), "/usr/lib/frr/"+daemon, "-f", file(".conf"), "-i", file(".pid"),
			"-z", filepath.Join(dir, "zserv.api"), "--vty_socket", dir, "-P", "0")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		daemons = append(daemons, cmd)
	}
	testnet.WaitFor(t, 20*time.Second, func() error {
		c, err := net.DialTimeout("tcp", netip.AddrPortFrom(torAddr, 179).String(), time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return func() {
		for _, cmd := range daemons {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
}
