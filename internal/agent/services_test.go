// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/ovs/conntrack"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/service"
)

// fakeServices is a cluster's Services.
type fakeServices struct {
	synced   bool
	services map[service.Key]service.Service
	problems map[service.Key][]string
	dirty    map[service.Key]bool
}

func (f *fakeServices) Synced() bool { return f.synced }

func (f *fakeServices) Take() []service.Key {
	defer clear(f.dirty)
	return slices.Collect(maps.Keys(f.dirty))
}

func (f *fakeServices) All() []service.Key {
	clear(f.dirty)
	return slices.Collect(maps.Keys(f.services))
}

func (f *fakeServices) Names() []service.Key { return slices.Collect(maps.Keys(f.services)) }

func (f *fakeServices) Service(k service.Key) (service.Service, []string, bool) {
	s, ok := f.services[k]
	return s, f.problems[k], ok
}

// set makes a Service with an address, or removes it.
func (f *fakeServices) set(name, address string) {
	k := service.Key{Namespace: "default", Name: name}
	f.dirty[k] = true
	if address == "" {
		delete(f.services, k)
		return
	}
	f.services[k] = service.Service{
		Key: k, ClusterIPs: []netip.Addr{netip.MustParseAddr(address)},
		Ports: []service.Port{{Protocol: service.TCP, Port: 80, Endpoints: []service.Endpoint{
			{AddrPort: netip.MustParseAddrPort("10.10.1.2:8080"), Ready: true},
		}}},
	}
}

// serviceRig is a serviceSwitch with all that it touches.
type serviceRig struct {
	*serviceSwitch
	source *fakeServices
	table  *ovstest.Switch
	marks  int
	told   int
	hosts  []service.Host
	forgot []flow.Connection
	// tracked are the connections of an earlier run.
	tracked []conntrack.Entry
}

func newServiceRig() *serviceRig {
	var tables []uint8
	for _, tb := range pipeline.Tables() {
		tables = append(tables, tb.ID)
	}
	r := &serviceRig{
		source: &fakeServices{services: map[service.Key]service.Service{}, dirty: map[service.Key]bool{}},
		table:  ovstest.NewSwitch(ovstest.SwitchParams{Tables: tables}),
	}
	r.serviceSwitch = newServiceSwitch(serviceSwitchParams{
		source: r.source, flows: r.table, mark: func() { r.marks++ }, news: func() { r.told++ },
		host:   func(h service.Host) { r.hosts = append(r.hosts, h) },
		forget: func(c []service.Connection) { r.forgot = append(r.forgot, connectionsOf(c)...) },
		forgetThese: func(_ context.Context, c []flow.Connection) error {
			r.forgot = append(r.forgot, c...)
			return nil
		},
		connections: func(_ context.Context, zone uint16, each func(conntrack.Entry) error) error {
			for _, e := range r.tracked {
				if e.Zone == zone {
					if err := each(e); err != nil {
						return err
					}
				}
			}
			return nil
		},
		problems: newServiceProblems(func(service.Key, []kube.ServiceProblem) {}),
	})
	return r
}

func (r *serviceRig) setMode(mode config.ServicesMode) {
	r.configure(serviceSettings{mode: mode, node: service.Node{Name: "n1", ClusterIPsOnly: mode != config.ServicesAll}})
}

// check runs the loop once and compares what is served.
func (r *serviceRig) check(t *testing.T, what, want string) {
	t.Helper()
	if err := r.reconcile(t.Context()); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	var got []string
	for _, f := range r.table.Flows() {
		if f.Priority == 50 { // one an address
			text := f.String()
			got = append(got, text[strings.Index(text, "nw_dst=")+7:strings.Index(text, " actions")])
		}
	}
	slices.Sort(got)
	if g := fmt.Sprintf("%v of %v", got, r.table.Owners()); g != want {
		t.Errorf("%s: got %s, want %s", what, g, want)
	}
}

func TestServicesFollowTheCluster(t *testing.T) {
	r := newServiceRig()
	r.source.set("a", "10.96.0.1")
	r.check(t, "configuration unknown", "[] of []")
	r.setMode(config.ServicesClusterIPOnly)
	r.setMode(config.ServicesClusterIPOnly)
	if r.marks != 1 {
		t.Errorf("%d marks for one change of mode", r.marks)
	}
	r.check(t, "Services unknown", "[] of []")
	if r.ready() == nil || r.told != 0 {
		t.Error("ready before the API server was read: what the last run left would be deleted")
	}
	r.source.synced = true
	r.check(t, "first", "[10.96.0.1] of [service/default/a]")
	if r.ready() != nil || r.told != 1 {
		t.Errorf("after the first run: %v, told %d times", r.ready(), r.told)
	}
	r.source.set("b", "10.96.0.2")
	r.check(t, "one more", "[10.96.0.1 10.96.0.2] of [service/default/a service/default/b]")
	r.source.set("a", "")
	r.check(t, "one gone", "[10.96.0.2] of [service/default/b]")
	r.setMode(config.ServicesDisabled)
	r.check(t, "disabled", "[] of []")
	r.source.set("c", "10.96.0.3")
	r.check(t, "disabled, changed", "[] of []")
	r.setMode(config.ServicesClusterIPOnly)
	r.check(t, "enabled", "[10.96.0.2 10.96.0.3] of [service/default/b service/default/c]")
	if r.told != 1 {
		t.Errorf("told %d times", r.told)
	}
}

func TestServicesDisabledFromTheStart(t *testing.T) {
	r := newServiceRig()
	r.setMode(config.ServicesDisabled)
	r.check(t, "disabled", "[] of []")
	r.check(t, "disabled still", "[] of []")
	if r.ready() != nil {
		t.Error("waits for Services that nobody wants")
	}
	if len(r.hosts) != 1 {
		t.Errorf("the node was told %d times that it has nothing to do: what an earlier run left stays", len(r.hosts))
	}
}

// TestServicesThatClash: one has what the other wants, and both change.
func TestServicesThatClash(t *testing.T) {
	r := newServiceRig()
	r.source.synced = true
	r.setMode(config.ServicesClusterIPOnly)
	r.source.set("a", "10.96.0.1")
	r.source.set("b", "10.96.0.2")
	r.source.set("c", "10.96.0.3")
	r.check(t, "three", "[10.96.0.1 10.96.0.2 10.96.0.3] of [service/default/a service/default/b service/default/c]")
	r.source.set("a", "10.96.0.2")
	r.source.set("b", "10.96.0.1")
	r.check(t, "swapped", "[10.96.0.1 10.96.0.2 10.96.0.3] of [service/default/a service/default/b service/default/c]")
	r.source.set("d", "10.96.0.4")
	r.source.set("b", "10.96.0.3")
	r.check(t, "clash", "[10.96.0.2 10.96.0.3 10.96.0.4] of [service/default/a service/default/b service/default/c service/default/d]")
	want := []string{"10.96.0.3:80 of TCP is served for Service default/b", "10.96.0.3 is served for Service default/b"}
	if d := cmp.Diff(want, r.problems.of(service.Key{Namespace: "default", Name: "c"})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	r.source.set("c", "")
	r.check(t, "clash over", "[10.96.0.2 10.96.0.3 10.96.0.4] of [service/default/a service/default/b service/default/d]")
}

// TestServicesWithProblems: what is wrong with the objects is told also when it
// changes nothing that is served, beside what the switch does not serve.
func TestServicesWithProblems(t *testing.T) {
	r := newServiceRig()
	r.source.synced = true
	r.setMode(config.ServicesClusterIPOnly)
	r.source.set("a", "10.96.0.1")
	r.source.set("b", "10.96.0.1")
	const served = "[10.96.0.1] of [service/default/a service/default/b]"
	const clash = "10.96.0.1:80 of TCP is served for Service default/a; 10.96.0.1 is served for Service default/a"
	b := service.Key{Namespace: "default", Name: "b"}
	for _, step := range []struct {
		name string
		read []string
		want string
	}{
		{"none of the objects", nil, clash},
		{"a slice", []string{"slice x is not used"}, "slice x is not used; " + clash},
		{"no slice", nil, clash},
		{"again", []string{"slice y is not used"}, "slice y is not used; " + clash},
	} {
		r.source.problems = map[service.Key][]string{b: step.read}
		r.source.set("b", "10.96.0.1")
		r.check(t, step.name, served)
		if got := strings.Join(r.problems.of(b), "; "); got != step.want {
			t.Errorf("%s: problems %q, want %q", step.name, got, step.want)
		}
	}
	r.source.problems = nil
	r.source.set("b", "")
	r.check(t, "gone", "[10.96.0.1] of [service/default/a]")
	if keys := r.problems.keys(); len(keys) > 0 {
		t.Errorf("problems of %v are left", keys)
	}
}

// TestServicesAreTriedAgain: what the table did not take is not forgotten.
func TestServicesAreTriedAgain(t *testing.T) {
	r := newServiceRig()
	r.source.synced = true
	r.setMode(config.ServicesClusterIPOnly)
	r.source.set("a", "10.96.0.1")
	broken := errors.New("broken")
	r.table.Fail(broken)
	if err := r.reconcile(t.Context()); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	r.table.Fail(nil)
	r.check(t, "again", "[10.96.0.1] of [service/default/a]")
}

// TestServicesAskTheNode: at the first run in any case, then when something changes;
// also for nothing, so that what the kernel has of Services goes with the mode.
func TestServicesAskTheNode(t *testing.T) {
	r := newServiceRig()
	r.source.synced = true
	r.source.set("a", "10.96.0.1")
	k := service.Key{Namespace: "default", Name: "a"}
	r.source.services[k].Ports[0].NodePort = 30080
	r.setMode(config.ServicesAll)
	r.check(t, "first", "[10.96.0.1] of [service/default/a]")
	r.check(t, "again", "[10.96.0.1] of [service/default/a]")
	r.setMode(config.ServicesClusterIPOnly)
	r.check(t, "less", "[10.96.0.1] of [service/default/a]")
	r.setMode(config.ServicesDisabled)
	r.check(t, "nothing", "[] of []")
	r.check(t, "nothing again", "[] of []")
	want := []service.Host{{
		Routes:    []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		NodePorts: []service.NodePort{{Key: k, Protocol: service.TCP, Port: 30080}},
		Announced: []service.Announcement{{Key: k, Addr: netip.MustParseAddr("10.96.0.1"), Kind: service.ClusterIP}},
		Addrs:     []netip.Addr{netip.MustParseAddr("10.96.0.1")},
	}, {}, {}}
	if d := cmp.Diff(want, r.hosts, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestServicesForgetConnections: those to endpoints that go, but none at the start.
func TestServicesForgetConnections(t *testing.T) {
	r := newServiceRig()
	r.source.synced = true
	r.source.set("a", "10.96.0.1")
	r.setMode(config.ServicesAll)
	r.check(t, "first", "[10.96.0.1] of [service/default/a]")
	k := service.Key{Namespace: "default", Name: "a"}
	s := r.source.services[k]
	s.Ports = []service.Port{{Protocol: service.TCP, Port: 80}}
	r.source.services[k], r.source.dirty[k] = s, true
	r.check(t, "no endpoint", "[10.96.0.1] of [service/default/a]")
	want := []flow.Connection{{
		Zone: pipeline.ZoneIPv4, Protocol: flow.ProtoTCP, Original: flow.Tuple{Dst: netip.MustParseAddrPort("10.96.0.1:80")},
		Reply: flow.Tuple{Src: netip.MustParseAddrPort("10.10.1.2:8080")},
	}}
	if d := cmp.Diff(want, r.forgot, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestForgetter(t *testing.T) {
	var asked [][]flow.Connection
	var again int
	var fault error
	f := newForgetter(forgetterParams{
		forget: func(_ context.Context, c []flow.Connection) error {
			asked = append(asked, c)
			return fault
		},
		settled: func(context.Context) error { return fault },
		again:   func(c []service.Connection) { again += len(c) },
	})
	some := func(n int) []service.Connection {
		return slices.Repeat([]service.Connection{{Protocol: service.UDP, Frontend: netip.MustParseAddrPort("10.96.0.1:53")}}, n)
	}
	f.add(nil)
	f.add(some(forgetAtOnce + 1))
	fault = errors.New("broken")
	if err := f.reconcile(t.Context()); !errors.Is(err, fault) || len(asked) != 1 {
		t.Errorf("got %v after %d calls", err, len(asked))
	}
	fault = nil
	if err := f.reconcile(t.Context()); err != nil || len(asked) != 3 || len(asked[2]) != 1 {
		t.Errorf("got %v after %d calls", err, len(asked))
	}
	fault = openflow.ErrRefused
	f.add(some(1))
	if err := f.reconcile(t.Context()); err != nil || len(f.pending) != 0 {
		t.Errorf("a switch that is too old: %v, %d pending", err, len(f.pending))
	}
	if err := f.settle(t.Context()); !errors.Is(err, fault) || again != 0 {
		t.Errorf("not settled: %v, looked again at %d", err, again)
	}
	fault = nil
	if err := f.settle(t.Context()); err != nil || again != forgetAtOnce+2 {
		t.Errorf("settled: %v, looked again at %d", err, again)
	}
	if err := f.settle(t.Context()); err != nil || again != forgetAtOnce+2 {
		t.Errorf("nothing left: %v, looked again at %d", err, again)
	}
}

// TestServicesLookAgain: of what was forgotten only that which still may not go on
// is forgotten again.
func TestServicesLookAgain(t *testing.T) {
	r := newServiceRig()
	r.source.synced = true
	r.source.set("a", "10.96.0.1")
	r.setMode(config.ServicesAll)
	r.check(t, "first", "[10.96.0.1] of [service/default/a]")
	to := func(endpoint string) service.Connection {
		return service.Connection{
			Protocol: service.TCP, Frontend: netip.MustParseAddrPort("10.96.0.1:80"), Endpoint: netip.MustParseAddrPort(endpoint),
		}
	}
	gone, back := to("10.10.1.3:8080"), to("10.10.1.2:8080")
	r.again([]service.Connection{gone, back})
	r.check(t, "looked again", "[10.96.0.1] of [service/default/a]")
	r.check(t, "once", "[10.96.0.1] of [service/default/a]")
	if d := cmp.Diff(connectionsOf([]service.Connection{gone}), r.forgot, cmpopts.EquateComparable(netip.AddrPort{})); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestServicesReviewConnections: what an earlier run left goes on only if it may.
func TestServicesReviewConnections(t *testing.T) {
	r := newServiceRig()
	r.source.synced = true
	r.source.set("a", "10.96.0.1")
	entry := func(protocol uint8, port uint16, endpoint string, mark uint32) conntrack.Entry {
		return conntrack.Entry{Mark: mark, Connection: flow.Connection{
			Zone: pipeline.ZoneIPv4, Protocol: protocol,
			Original: flow.Tuple{Src: netip.AddrPortFrom(netip.MustParseAddr("10.10.1.9"), port), Dst: netip.MustParseAddrPort("10.96.0.1:80")},
			Reply:    flow.Tuple{Src: netip.MustParseAddrPort(endpoint)},
		}}
	}
	r.tracked = []conntrack.Entry{
		entry(flow.ProtoTCP, 1, "10.10.1.2:8080", 4),
		entry(flow.ProtoTCP, 2, "10.10.1.3:8080", 4),
		entry(flow.ProtoUDP, 3, "10.10.1.3:8080", 4),
		entry(flow.ProtoUDP, 4, "10.96.0.1:80", 0),
	}
	r.setMode(config.ServicesAll)
	r.check(t, "first", "[10.96.0.1] of [service/default/a]")
	r.check(t, "again", "[10.96.0.1] of [service/default/a]")
	var got []string
	for _, c := range r.forgot {
		got = append(got, fmt.Sprint(c.Protocol, " from ", c.Original.Src.Port()))
	}
	if d := cmp.Diff([]string{"6 from 2", "17 from 3"}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
