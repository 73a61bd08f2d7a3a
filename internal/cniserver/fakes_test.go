// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/ipam"
)

// fault makes steps of the fakes fail, or kills the agent before or after one.
type fault struct {
	mu    sync.Mutex
	fails map[string]error // step name -> error
	// kill is the point at which the agent is killed; there are two a
	// changing step, before and after it. 0: never.
	kill  int
	point int
}

var errFault = errors.New("injected failure")

// killed is what a kill of the agent panics with: unlike an error it gives the
// code no chance to undo anything.
type killed struct{}

// step is called by every fake before it does something.
func (f *fault) step(ctx context.Context, name string, changing bool) error {
	if changing {
		f.pass()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.fails[name]
}

// pass goes past a point at which the agent may be killed.
func (f *fault) pass() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.point++; f.point == f.kill {
		panic(killed{})
	}
}

// world is the node that the fakes stand for; it outlives a server.
type world struct {
	*fault
	mu         sync.Mutex
	ports      map[string]PodInterface
	flows      map[string]bool
	links      map[string]podlink.Link
	taken      map[string]bool // interface names in namespaces that are not ours
	namespaces map[string]bool
	down       bool // the switch does not answer
}

func newWorld(namespaces ...string) *world {
	w := &world{
		fault: &fault{}, ports: map[string]PodInterface{}, flows: map[string]bool{},
		links: map[string]podlink.Link{}, taken: map[string]bool{}, namespaces: map[string]bool{},
	}
	for _, ns := range namespaces {
		w.namespaces[ns] = true
	}
	return w
}

// end removes a namespace; the kernel removes the pair with it.
func (w *world) end(ns string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.namespaces, ns)
	maps.DeleteFunc(w.links, func(_ string, l podlink.Link) bool { return l.NetNS == ns })
}

// dump is everything in the world, sorted.
func (w *world) dump() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for host, p := range w.ports {
		out = append(out, fmt.Sprintf("port %s %s/%s %v", host, p.PodNamespace, p.PodName, p.Addresses))
	}
	for host := range w.flows {
		out = append(out, "flows "+host)
	}
	for host, l := range w.links {
		out = append(out, fmt.Sprintf("link %s %s:%s mtu %d", host, l.NetNS, l.IfName, l.MTU))
	}
	slices.Sort(out)
	return out
}

type fakeSwitch struct{ *world }

func (s fakeSwitch) AttachPod(ctx context.Context, pod PodInterface) error {
	for _, part := range []string{"port", "flows"} {
		if err := s.step(ctx, "attach "+part, true); err != nil {
			return err
		}
		s.mu.Lock()
		if s.down {
			s.mu.Unlock()
			return errors.New("switch is down")
		}
		if part == "port" {
			s.ports[pod.HostInterface] = pod
		} else {
			s.flows[pod.HostInterface] = true
		}
		s.mu.Unlock()
		s.pass()
	}
	return nil
}

func (s fakeSwitch) DetachPod(ctx context.Context, host string) error {
	for _, part := range []string{"flows", "port"} {
		if err := s.step(ctx, "detach "+part, true); err != nil {
			return err
		}
		s.mu.Lock()
		if s.down {
			s.mu.Unlock()
			return errors.New("switch is down")
		}
		if part == "port" {
			delete(s.ports, host)
		} else {
			delete(s.flows, host)
		}
		s.mu.Unlock()
		s.pass()
	}
	return nil
}

func (s fakeSwitch) Settle(ctx context.Context) error {
	if err := s.step(ctx, "settle", false); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errors.New("switch is down")
	}
	return nil
}

func (s fakeSwitch) CheckPod(ctx context.Context, pod PodInterface) error {
	if err := s.step(ctx, "check port", false); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.flows[pod.HostInterface] {
		return errors.New("flows are missing")
	}
	return nil
}

func (s fakeSwitch) PodInterfaces(ctx context.Context) ([]PodInterface, error) {
	if err := s.step(ctx, "list ports", false); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, errors.New("switch is down")
	}
	return slices.SortedFunc(maps.Values(s.ports), func(a, b PodInterface) int {
		return cmp.Compare(a.HostInterface, b.HostInterface)
	}), nil
}

type fakeLinks struct{ *world }

func (l fakeLinks) Create(ctx context.Context, link podlink.Link) error {
	if err := l.step(ctx, "create link", true); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.namespaces[link.NetNS]:
		return podlink.ErrNoNamespace
	case l.taken[link.NetNS+link.IfName]:
		return podlink.ErrInterfaceExists
	}
	l.links[link.HostInterface] = link
	l.pass()
	return nil
}

func (l fakeLinks) Delete(ctx context.Context, host string) error {
	if err := l.step(ctx, "delete link", true); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.links, host)
	l.pass()
	return nil
}

func (l fakeLinks) Check(ctx context.Context, link podlink.Link) error {
	if err := l.step(ctx, "check link", false); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.namespaces[link.NetNS] {
		return podlink.ErrNoNamespace
	}
	if d := gocmp.Diff(link, l.links[link.HostInterface], addrComparer); d != "" {
		return fmt.Errorf("%w: %s", podlink.ErrBroken, d)
	}
	return nil
}

func (l fakeLinks) Repair(ctx context.Context, link podlink.Link) ([]string, error) {
	if err := l.step(ctx, "repair link", false); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	have := l.links[link.HostInterface]
	if have.MTU == link.MTU {
		return nil, nil
	}
	have.MTU = link.MTU
	l.links[link.HostInterface] = have
	return []string{"MTU"}, nil
}

func (l fakeLinks) List(ctx context.Context) ([]string, error) {
	if err := l.step(ctx, "list links", false); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.links)), nil
}

func (l fakeLinks) NamespaceExists(path string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.namespaces[path], nil
}

// faultyAddresses is the real allocator with faults.
type faultyAddresses struct {
	*ipam.Allocator
	*fault
}

func (a faultyAddresses) Allocate(ctx context.Context, o ipam.Owner, cidrs []netip.Prefix) ([]ipam.Assignment, error) {
	if err := a.step(ctx, "allocate", true); err != nil {
		return nil, err
	}
	defer a.pass()
	return a.Allocator.Allocate(ctx, o, cidrs)
}

func (a faultyAddresses) Release(ctx context.Context, o ipam.Owner) error {
	if err := a.step(ctx, "release", true); err != nil {
		return err
	}
	defer a.pass()
	return a.Allocator.Release(ctx, o)
}

var (
	addrComparer = gocmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	testSettings = Settings{
		PodCIDRs:   []netip.Prefix{netip.MustParsePrefix("10.10.1.0/24"), netip.MustParsePrefix("fd10:0:0:1::/64")},
		MTU:        1450,
		HostMTU:    1500,
		Datapath:   podlink.Netdev,
		GatewayMAC: net.HardwareAddr{0x0a, 0x57, 0x4d, 0, 0, 1},
	}
)

// node is a server on a world, with its directories.
type node struct {
	*Server
	w        *world
	alloc    *ipam.Allocator
	settings Settings
	notReady error
	policies *fakePolicies
}

// fakePolicies knows the policies of every Pod but those held up.
type fakePolicies struct {
	mu   sync.Mutex
	held map[string]chan error // by namespace/name
}

func (p *fakePolicies) hold(pod string) chan<- error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := make(chan error)
	p.held[pod] = c
	return c
}

// Await implements Policies.
func (p *fakePolicies) Await(ctx context.Context, namespace, name, _ string) error {
	p.mu.Lock()
	c := p.held[namespace+"/"+name]
	p.mu.Unlock()
	if c == nil {
		return nil
	}
	select {
	case err := <-c:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newNode(t testing.TB, w *world) *node {
	t.Helper()
	n := &node{w: w, settings: testSettings, policies: &fakePolicies{held: map[string]chan error{}}}
	n.restart(t, t.TempDir())
	return n
}

// restart replaces the server by a new one on the same node.
func (n *node) restart(t testing.TB, dir string) {
	t.Helper()
	n.w.fault = &fault{}
	n.alloc = ipam.New(ipam.Params{Dir: dir + "/ipam"})
	t.Cleanup(func() {
		if err := n.alloc.Close(); err != nil {
			t.Error(err)
		}
	})
	var err error
	n.Server, err = New(Params{
		SocketPath: dir + "/cni.sock",
		StateDir:   dir + "/attachments",
		Settings:   func() (Settings, error) { return n.settings, n.notReady },
		Switch:     fakeSwitch{n.w},
		Policies:   n.policies,
		Links:      fakeLinks{n.w},
		Addresses:  faultyAddresses{n.alloc, n.w.fault},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dump is the world and what the agent keeps on disk.
func (n *node) dump(t testing.TB) []string {
	t.Helper()
	out := n.w.dump()
	allocs, err := n.alloc.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range allocs {
		out = append(out, fmt.Sprintf("addresses %s %v", a.Owner, a.Addrs))
	}
	all, unreadable, err := n.records.list()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		out = append(out, "record "+a.HostInterface)
	}
	for _, host := range unreadable {
		out = append(out, "unreadable "+host)
	}
	return out
}
