// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/service"
)

// fakeServices is a cluster's Services.
type fakeServices struct {
	synced   bool
	services map[service.Key]service.Service
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

func (f *fakeServices) Service(k service.Key) (service.Service, []string, bool) {
	s, ok := f.services[k]
	return s, nil, ok
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
	r.serviceSwitch = newServiceSwitch(r.source, r.table, func() { r.marks++ }, func() { r.told++ })
	return r
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
	if r.ready() != nil {
		t.Error("waits for Services that nobody wants")
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
	want := map[service.Key]string{{Namespace: "default", Name: "c"}: "10.96.0.3:80 of TCP is served for Service default/b; 10.96.0.3 is served for Service default/b"}
	if d := cmp.Diff(want, r.problems); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	r.source.set("c", "")
	r.check(t, "clash over", "[10.96.0.2 10.96.0.3 10.96.0.4] of [service/default/a service/default/b service/default/d]")
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
