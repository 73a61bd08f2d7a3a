// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/gobgp"
	"github.com/waymark-net/waymark/routing/kernel"
	"github.com/waymark-net/waymark/test/report"
)

var bgpSizes = flag.String("nodes", "1000,10000", "simulated nodes, each with a prefix of each family")

// bgpPatience is what one step may take at most.
const bgpPatience = 2 * time.Minute

// tableSeries is one thing that is measured of a table of routes.
type tableSeries struct {
	nodes int
	what  string
}

const (
	installs, withdraws = "install", "withdraw"
	installWrites       = "write of install"
	withdrawWrites      = "write of withdraw"
	ipAdds, ipDeletes   = "ip -batch add", "ip -batch del"
	memory              = "memory"
)

// TestBGP measures how routes that a node learns get into its kernel, and how soon
// many speakers agree.
func TestBGP(t *testing.T) { testnet.Run(t, measureBGP) }

func measureBGP(t *testing.T, node *testnet.Namespace) {
	// What the agent says is made as ever, and read by nobody.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	r := begin(t, "bgp")
	tor := testnet.New(t, "tor")
	testnet.Veth(t,
		testnet.End{NS: node, Name: "eth0", Addrs: []string{"172.30.0.11/24", "fd30::11/64"}},
		testnet.End{NS: tor, Name: "eth0", Addrs: []string{"172.30.0.1/24", "fd30::1/64"}})
	got := samples[tableSeries]{}
	for _, text := range strings.Split(*bgpSizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n <= 0 || n > 40000 {
			t.Fatalf("-nodes: %q: want numbers up to 40000", text)
		}
		for range *rounds {
			measureTable(t, node, n, got)
		}
		r.Add(tableRows(n, got)...)
	}
	for _, kind := range meshKinds {
		r.Add(measureConvergence(t, node, tor, kind)...)
	}
	write(t, r)
}

// learner is the part of an agent that this is about: the speaker, and the loop
// that brings what it learned into the kernel, at most ten times a second.
type learner struct {
	events chan routing.PathEvent
	links  []routing.Link
}

// until applies what is learned until so many routes are in place, and returns how
// much of the time the kernel took.
func (l learner) until(ctx context.Context, routes int) (writing time.Duration, err error) {
	for {
		select {
		case <-ctx.Done():
			return writing, fmt.Errorf("waiting for %d routes: %w", routes, ctx.Err())
		case e := <-l.events:
			begun := time.Now()
			want := routing.KernelRoutes(routing.KernelInput{Links: l.links, Learned: e.Routes})
			if len(want.Unresolved) > 0 {
				return writing, errors.New(want.Unresolved[0])
			}
			res, err := kernel.Routes{}.Apply(ctx, want.Routes, kernel.RouteOptions{})
			writing += time.Since(begun)
			if err != nil {
				return writing, err
			}
			if res.Unchanged+len(res.Added)+len(res.Replaced) == routes {
				return writing, nil
			}
		}
	}
}

func measureTable(t *testing.T, node *testnet.Namespace, n int, got samples[tableSeries]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bgpPatience)
	defer cancel()
	server := startRouteServer(t)
	defer server.stop()
	before := resident(t)
	l := learner{events: make(chan routing.PathEvent, 1), links: []routing.Link{{
		Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("172.30.0.11/24"), netip.MustParsePrefix("fd30::11/64")},
	}}}
	up := make(chan struct{}, 1)
	s := gobgp.New(gobgp.Params{OnRoutes: l.learned, OnSessions: func(list []routing.SessionStatus) {
		if len(list) == 1 && list[0].State == routing.SessionEstablished {
			select {
			case up <- struct{}{}:
			default:
			}
		}
	}})
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	server.announce(t, 0)
	if err := s.Set(ctx, routing.BGPConfig{
		Speaker: speakerConfig(nodeASN, nodeAddr),
		Peers:   []routing.Peer{bgpPeer("server", serverASN, serverAddr, nodeAddr, 2*n)},
		Scope: routing.ImportScope{
			ClusterCIDRs: clusterCIDRs, Links: l.links,
		},
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-up:
	case <-ctx.Done():
		t.Fatal("the session does not come up")
	}
	step := func(announced int, what, writes string) {
		begun := time.Now()
		server.announce(t, announced)
		writing, err := l.until(ctx, 2*announced)
		if err != nil {
			t.Fatal(err)
		}
		got.add(tableSeries{n, what}, time.Since(begun).Seconds())
		got.add(tableSeries{n, writes}, writing.Seconds())
	}
	step(n, installs, installWrites)
	got.add(tableSeries{n, memory}, float64(resident(t)-before)/(1<<20))
	step(0, withdraws, withdrawWrites)
	stop()
	<-ended
	got.add(tableSeries{n, ipAdds}, ipBatch(t, "add", n).Seconds())
	got.add(tableSeries{n, ipDeletes}, ipBatch(t, "del", n).Seconds())
}

// learned keeps the last event.
func (l learner) learned(e routing.PathEvent) {
	for {
		select {
		case l.events <- e:
			return
		default:
		}
		select {
		case <-l.events:
		default:
		}
	}
}

// ipBatch is the limit: the same routes by ip(8), one process a family.
func ipBatch(t *testing.T, command string, n int) time.Duration {
	t.Helper()
	var text [2]strings.Builder
	for i, p := range nodePrefixes(n) {
		hop := hop4
		if i%2 == 1 {
			hop = hop6
		}
		fmt.Fprintf(&text[i%2], "route %s %s via %s dev eth0 proto 87 metric %d\n", command, p, hop, routing.MetricBGP)
	}
	var files [2]string
	for i := range text {
		files[i] = filepath.Join(t.TempDir(), strconv.Itoa(i))
		if err := os.WriteFile(files[i], []byte(text[i].String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	for i, family := range []string{"-4", "-6"} {
		if out, err := exec.Command("ip", family, "-batch", files[i]).CombinedOutput(); err != nil {
			t.Fatalf("ip %s -batch: %v: %.300s", family, err, out)
		}
	}
	return time.Since(begun)
}

// resident is what this process has of the machine's memory, in bytes, without what
// it would give back.
func resident(t *testing.T) int64 {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

func tableRows(n int, got samples[tableSeries]) []report.Row {
	var out []report.Row
	for _, m := range []struct{ name, what, limit string }{
		{"install", installs, ipAdds},
		{"install, of that computing and writing routes", installWrites, ipAdds},
		{"withdraw", withdraws, ipDeletes},
		{"withdraw, of that computing and writing routes", withdrawWrites, ipDeletes},
	} {
		name := fmt.Sprintf("%d prefixes of each family: %s", n, m.name)
		out = append(out, report.Measure(name, got.median(tableSeries{n, m.what}), "s").Beside(got.median(tableSeries{n, m.limit})))
	}
	return append(out, report.Measure(fmt.Sprintf("%d prefixes of each family: memory", n), got.median(tableSeries{n, memory}), "MiB"))
}
