// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/gobgp"
)

// The route server is a process of its own, so that the memory of the other is that
// of the node alone. It is the product's own speaker, which announces what it is
// told; the sessions are on loopback.
const (
	routeServerEnv = "WAYMARK_BENCH_ROUTE_SERVER"
	bgpPort        = 1790
	nodeASN        = 64512
	serverASN      = 64999
)

var (
	nodeAddr   = netip.MustParseAddr("127.0.0.1")
	serverAddr = netip.MustParseAddr("127.0.0.2")
	// Next hops on the node's only link.
	hop4, hop6 = netip.MustParseAddr("172.30.0.1"), netip.MustParseAddr("fd30::1")
)

// clusterCIDRs have all of nodePrefixes.
var clusterCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd10::/16")}

// nodePrefixes are the Pod CIDRs of so many simulated nodes.
func nodePrefixes(n int) []netip.Prefix {
	var out []netip.Prefix
	for i := range n {
		v4 := netip.AddrFrom4([4]byte{10, byte(64 + i>>8), byte(i), 0})
		var v6 [16]byte
		v6[0], v6[1], v6[5], v6[6], v6[7] = 0xfd, 0x10, 1, byte(i>>8), byte(i)
		out = append(out, netip.PrefixFrom(v4, 24), netip.PrefixFrom(netip.AddrFrom16(v6), 64))
	}
	return out
}

func speakerConfig(asn uint32, addr netip.Addr) routing.SpeakerConfig {
	id := addr.As4()
	id[0] = 10 // 127.0.0.0/8 is no identifier
	return routing.SpeakerConfig{ASN: asn, RouterID: netip.AddrFrom4(id), ListenPort: bgpPort, ListenAddresses: []netip.Addr{addr}}
}

func bgpPeer(name string, asn uint32, addr, from netip.Addr, prefixes int) routing.Peer {
	return routing.Peer{
		Name: name, ASN: asn, Address: addr, Port: bgpPort, SourceAddress: from,
		Timers: routing.Timers{ConnectRetry: time.Second},
		Import: routing.ImportRule{MaxPrefixes: prefixes},
	}
}

// routeServerMain does not return in a process that startRouteServer made. It reads
// how many nodes' prefixes to announce, one number a line.
func routeServerMain() {
	if os.Getenv(routeServerEnv) == "" {
		return
	}
	err := func() error {
		s := gobgp.New(gobgp.Params{OnRoutes: func(routing.PathEvent) {}})
		ended := make(chan error, 1)
		go func() { ended <- s.Run(context.Background()) }()
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			n, err := strconv.Atoi(in.Text())
			if err != nil {
				return err
			}
			config := routing.BGPConfig{
				Speaker: speakerConfig(serverASN, serverAddr),
				Peers:   []routing.Peer{bgpPeer("node", nodeASN, nodeAddr, serverAddr, 0)},
			}
			for _, p := range nodePrefixes(n) {
				config.Advertisements = append(config.Advertisements, routing.Advertisement{Prefix: p, NextHops: []netip.Addr{hop4, hop6}})
			}
			if err := s.Set(context.Background(), config); err != nil {
				return err
			}
			fmt.Println(n)
		}
		return nil // the other process ended
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, "route server:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// routeServer is such a process.
type routeServer struct {
	in  io.Writer
	out *bufio.Scanner
	// stop returns when it has ended, and its address is free.
	stop func()
}

func startRouteServer(t *testing.T) *routeServer {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), routeServerEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
	return &routeServer{in, bufio.NewScanner(out), stop}
}

// announce returns once the server has begun to announce so many nodes' prefixes.
func (s *routeServer) announce(t *testing.T, n int) {
	t.Helper()
	if _, err := fmt.Fprintln(s.in, n); err != nil {
		t.Fatal(err)
	}
	if !s.out.Scan() || strings.TrimSpace(s.out.Text()) != strconv.Itoa(n) {
		t.Fatalf("the route server said %q", s.out.Text())
	}
}
