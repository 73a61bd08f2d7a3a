// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/flows"
	"github.com/waymark-net/waymark/policy/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Who sends to Pods.
var (
	friend   = netip.MustParseAddr("10.0.2.2")
	stranger = netip.MustParseAddr("10.0.2.3")
	node     = netip.MustParseAddr("198.51.100.1")
)

const gatewayPort = 1

// injected is a packet that was sent from the controller.
type injected struct {
	inPort uint32
	frame  []byte
}

// fakeSwitch is a fake switch that notes what is injected, and has counters.
type fakeSwitch struct {
	*ovstest.Switch
	injected  []injected
	injectErr error
	// refuse, unless nil, is what the next Patch returns.
	refuse error
	// packets is what each flow has counted.
	packets uint64
	updates []string
}

func (s *fakeSwitch) Update(owner string, f []flow.Flow, g []flow.Group) error {
	s.updates = append(s.updates, owner)
	return s.Switch.Update(owner, f, g)
}

func (s *fakeSwitch) Patch(changes ...flow.Change) error {
	if err := s.refuse; err != nil {
		s.refuse = nil
		return err
	}
	return s.Switch.Patch(changes...)
}

func (s *fakeSwitch) Inject(_ context.Context, inPort uint32, frame []byte, actions []flow.Action) error {
	if s.injectErr != nil {
		return s.injectErr
	}
	if d := cmp.Diff(pipeline.Forward(), actions); d != "" {
		return fmt.Errorf("actions (-want +got):\n%s", d)
	}
	s.injected = append(s.injected, injected{inPort, frame})
	return nil
}

func (s *fakeSwitch) Counters(_ context.Context, filter openflow.CounterFilter) ([]openflow.FlowCounter, error) {
	var out []openflow.FlowCounter
	for _, f := range s.Flows() {
		if slices.Contains(filter.Tables, f.Table) {
			out = append(out, openflow.FlowCounter{Key: f.Key(), Packets: s.packets, Bytes: 100 * s.packets})
		}
	}
	return out, nil
}

// api is the API server's Pods.
type api map[policy.PodKey]policy.PodIntent

func (a api) Pod(_ context.Context, key policy.PodKey) (policy.PodIntent, error) {
	p, ok := a[key]
	if !ok {
		return p, fmt.Errorf("no Pod %s", key)
	}
	return p, nil
}

// world is an Enforcer and what it works with.
type world struct {
	*Enforcer
	t      testing.TB
	sw     *fakeSwitch
	status stream.Status
	api    api
	dir    string
	// changed counts calls of Params.Changed.
	changed int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, api: api{}, dir: t.TempDir(), status: stream.Status{Connected: true, Controller: netip.MustParseAddrPort("10.1.1.1:10463")}}
	w.restart()
	return w
}

// restart begins anew with an empty switch and what is in the directory.
func (w *world) restart() {
	w.t.Helper()
	var tables []uint8
	for _, tb := range pipeline.Tables() {
		tables = append(tables, tb.ID)
	}
	w.sw = &fakeSwitch{Switch: ovstest.NewSwitch(ovstest.SwitchParams{Tables: tables})}
	gateway := pipeline.Gateway(pipeline.GatewayParams{
		Port: gatewayPort, Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.1")}, NodeAddrs: []netip.Addr{node},
	})
	for owner, f := range map[string][]flow.Flow{pipeline.OwnerBase: pipeline.Base(), pipeline.OwnerGateway: gateway} {
		if err := w.sw.Update(owner, f, nil); err != nil {
			w.t.Fatal(err)
		}
	}
	w.sw.updates = nil
	w.Enforcer = New(Params{
		Switch: w.sw, Status: func() stream.Status { return w.status }, Pods: w.api, Dir: w.dir, Changed: func() { w.changed++ },
	})
}

// local is the interface of Pod n; its port is 10 + n.
func local(n int) Interface {
	return Interface{
		Name: fmt.Sprintf("veth%d", n), Port: uint32(10 + n), UID: fmt.Sprintf("uid-%d", n),
		Pod: policy.PodKey{Namespace: "ns", Name: fmt.Sprintf("pod-%d", n)},
	}
}

func addressOf(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 1, byte(10 + n)}) }

// attach connects Pod n.
func (w *world) attach(n int, i Interface) {
	w.t.Helper()
	pod := pipeline.Pod(pipeline.PodPort{Port: i.Port, MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(n)}, Addrs: []netip.Addr{addressOf(n)}})
	if err := w.sw.Update(pipeline.OwnerPod(i.Name), pod, nil); err != nil {
		w.t.Fatal(err)
	}
	owners, err := w.Attach(i)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range owners {
		if !IsOwner(o) {
			w.t.Errorf("owner %s is not the Enforcer's", o)
		}
	}
}

func (w *world) apply(u *policy.Update) {
	w.t.Helper()
	if err := w.Apply(w.t.Context(), u); err != nil {
		w.t.Fatal(err)
	}
}

// reach says who reaches Pod n, which is at a port.
func (w *world) reach(n int, port uint32) string {
	w.t.Helper()
	w.sw.ForgetConnections()
	var out []string
	for _, from := range []struct {
		name string
		addr netip.Addr
	}{{"node", node}, {"friend", friend}, {"stranger", stranger}} {
		hop := ovstest.Hop{InPort: gatewayPort, Src: pipeline.GatewayMAC(), Dst: pipeline.GatewayMAC()}
		switch v := w.sw.Trace(ovstest.TCP(hop, from.addr, addressOf(n), 1000, 80)).String(); v {
		case fmt.Sprintf("output:%d", port):
			out = append(out, from.name)
		case "drop":
		default:
			w.t.Errorf("from %s to Pod %d: %s", from.name, n, v)
		}
	}
	return strings.Join(out, " ")
}

func (w *world) wantReach(n int, port uint32, want string) {
	w.t.Helper()
	if got := w.reach(n, port); got != want {
		w.t.Errorf("%s reach Pod %d at port %d, want %s", got, n, port, want)
	}
}

func labels(n int) map[string]string { return map[string]string{"app": fmt.Sprintf("app-%d", n)} }

func identityOf(n int) policy.ID { return policy.IdentityOf("ns", labels(n), nil) }

var (
	subject = policy.ID{'s'}
	group   = policy.ID{'g'}
)

// record is what the State has of Pod n.
func record(n int) policy.Pod {
	return policy.Pod{Key: local(n).Pod, UID: local(n).UID, Identity: identityOf(n)}
}

// state has a policy that lets only the friend to the Pods, which it knows.
func state(pods ...int) *policy.Update {
	web := &policy.Policy{
		Key: policy.Key{Namespace: "ns", Name: "web"}, Tier: policy.TierNamespace, Subject: subject,
		Isolates: [policy.Directions]bool{policy.Ingress: true},
		Rules:    []policy.Rule{{Subject: subject, Peers: []policy.ID{group}}},
	}
	u := &policy.Update{
		Policies: []*policy.Policy{web},
		Groups:   []policy.GroupUpdate{{ID: group, Whole: true, Added: []netip.Addr{friend}}},
	}
	for _, n := range pods {
		u.Pods = append(u.Pods, record(n))
		u.Identities = append(u.Identities, &policy.Identity{ID: identityOf(n), Subjects: []policy.ID{subject}})
	}
	return u
}

const (
	everybody = "node friend stranger"
	allowed   = "node friend"
	held      = "node"
)

func TestStateAndInterfaces(t *testing.T) {
	other := local(0)
	other.UID = "uid-of-another"
	untold := local(0)
	untold.UID = ""
	moved := local(0)
	moved.Port = 30
	for name, tc := range map[string]struct {
		do   func(w *world)
		port uint32
		want string
		held int
	}{
		"no State":          {func(w *world) { w.attach(0, local(0)) }, 10, everybody, 0},
		"State, interface":  {func(w *world) { w.apply(state(0)); w.attach(0, local(0)) }, 10, allowed, 0},
		"interface, State":  {func(w *world) { w.attach(0, local(0)); w.apply(state(0)) }, 10, allowed, 0},
		"no policy":         {func(w *world) { w.attach(0, local(0)); w.apply(&policy.Update{}) }, 10, held, 1},
		"unknown Pod":       {func(w *world) { w.apply(state(1)); w.attach(0, local(0)) }, 10, held, 1},
		"unknown, known":    {func(w *world) { w.apply(state(1)); w.attach(0, local(0)); w.apply(state(0)) }, 10, allowed, 0},
		"gone Pod":          {func(w *world) { w.apply(state(0)); w.attach(0, local(0)); w.apply(gone(0)) }, 10, held, 1},
		"another UID":       {func(w *world) { w.apply(state(0)); w.attach(0, other) }, 10, held, 1},
		"UID not told":      {func(w *world) { w.apply(state(0)); w.attach(0, untold) }, 10, allowed, 0},
		"recreated":         {func(w *world) { w.apply(state(0)); w.attach(0, other); w.attach(0, local(0)) }, 10, allowed, 0},
		"renumbered":        {func(w *world) { w.apply(state(0)); w.attach(0, local(0)); w.attach(0, moved) }, 30, allowed, 0},
		"renumbered before": {func(w *world) { w.attach(0, local(0)); w.attach(0, moved); w.apply(state(0)) }, 30, allowed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tc.do(w)
			w.wantReach(0, tc.port, tc.want)
			if got := w.Totals().Held; got != tc.held {
				t.Errorf("%d Pods are held, want %d", got, tc.held)
			}
			for _, owner := range w.sw.Owners() {
				if rest, port := strings.CutPrefix(owner, flows.OwnerPrefix+"port/"); port && rest != fmt.Sprint(tc.port) {
					t.Errorf("flows of port %s are left", rest)
				}
			}
		})
	}
}

func gone(n int) *policy.Update { return &policy.Update{GonePods: []policy.PodKey{local(n).Pod}} }

func TestChanged(t *testing.T) {
	w := newWorld(t)
	if w.Known() {
		t.Error("a State is known before there was an Update")
	}
	w.apply(&policy.Update{})
	if !w.Known() || w.changed != 1 {
		t.Errorf("after the first Update: known %v, %d calls of Changed", w.Known(), w.changed)
	}
	w.apply(state(0))
	if w.changed != 1 {
		t.Errorf("Changed was called again")
	}
}

func TestDetach(t *testing.T) {
	w := newWorld(t)
	w.attach(0, local(0))
	if err := w.Detach(local(0).Name); err != nil {
		t.Fatal(err)
	}
	w.sw.Delete(pipeline.OwnerPod(local(0).Name))
	w.apply(state(0, 1))
	w.attach(1, local(1))
	before := w.sw.Dump()
	w.attach(0, local(0))
	for _, name := range []string{local(0).Name, local(0).Name, "never"} {
		if err := w.Detach(name); err != nil {
			t.Errorf("detach %s: %v", name, err)
		}
	}
	w.sw.Delete(pipeline.OwnerPod(local(0).Name))
	if d := cmp.Diff(before, w.sw.Dump()); d != "" {
		t.Errorf("an interface leaves flows (-before +after):\n%s", d)
	}
}

// TestRefusedPatch: the engine takes the switch for another than it is.
func TestRefusedPatch(t *testing.T) {
	refused := errors.New("the switch does not want it")
	for name, tc := range map[string]struct {
		change func(w *world) error
	}{
		"State": {func(w *world) error {
			return w.Apply(w.t.Context(), &policy.Update{GonePolicies: []policy.Key{state().Policies[0].Key}})
		}},
		"attach": {func(w *world) error { _, err := w.Attach(local(1)); return err }},
		"detach": {func(w *world) error { return w.Detach(local(0).Name) }},
	} {
		t.Run(name, func(t *testing.T) {
			w, fine := newWorld(t), newWorld(t)
			for _, x := range []*world{w, fine} {
				x.apply(state(0, 1))
				x.attach(0, local(0))
				if err := x.Configure(config.Default().NetworkPolicy); err != nil {
					t.Fatal(err)
				}
			}
			w.sw.refuse = refused
			if err := tc.change(w); !errors.Is(err, refused) {
				t.Errorf("error %v, want that of the switch", err)
			}
			if err := tc.change(fine); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(fine.sw.Dump(), w.sw.Dump()); d != "" {
				t.Errorf("flows (-want +got):\n%s", d)
			}
			again := state(0, 1)
			for _, x := range []*world{w, fine} {
				x.apply(again)
			}
			if d := cmp.Diff(fine.sw.Dump(), w.sw.Dump()); d != "" {
				t.Errorf("flows after the next change (-want +got):\n%s", d)
			}
		})
	}
}

func TestApplyWaitsForTheSwitch(t *testing.T) {
	w := newWorld(t)
	lost := errors.New("connection lost")
	w.sw.Fail(lost)
	if err := w.Apply(t.Context(), state(0)); !errors.Is(err, lost) {
		t.Errorf("error %v, want that of the switch", err)
	}
	w.sw.Fail(nil)
	w.attach(0, local(0)) // which brings what failed
	w.wantReach(0, 10, allowed)
}

func TestConfigure(t *testing.T) {
	w := newWorld(t)
	w.apply(state(0))
	w.attach(0, local(0))
	if slices.Contains(w.sw.Owners(), flows.OwnerDenied) {
		t.Error("what becomes of denied packets is declared before it is known")
	}
	rest := w.others()
	settings := config.Default().NetworkPolicy
	quiet, logged := flows.Denied{Meter: DeniedMeter().ID}.Flows(), flows.Denied{Log: true, Meter: DeniedMeter().ID}.Flows()
	for i, step := range []struct {
		change func(s *config.NetworkPolicy)
		want   []flow.Flow
	}{
		{func(*config.NetworkPolicy) {}, quiet},
		{func(s *config.NetworkPolicy) { s.LogDenied = true }, logged},
		{func(s *config.NetworkPolicy) { s.PodTimeout++ }, logged},
		{func(s *config.NetworkPolicy) { s.LogDenied = false }, quiet},
	} {
		step.change(&settings)
		for range 2 { // what is said twice changes nothing
			w.sw.updates = nil
			if err := w.Configure(settings); err != nil {
				t.Fatal(err)
			}
		}
		if len(w.sw.updates) > 0 {
			t.Errorf("step %d: the same again updates %v", i, w.sw.updates)
		}
		var got []flow.Flow
		for _, f := range w.sw.Flows() {
			if f.Table == pipeline.TableDenied && len(f.Actions) > 0 {
				got = append(got, f)
			}
		}
		flow.Sort(step.want)
		if d := cmp.Diff(fmt.Sprint(step.want), fmt.Sprint(got)); d != "" {
			t.Errorf("step %d: denied packets (-want +got):\n%s", i, d)
		}
		if d := cmp.Diff(rest, w.others()); d != "" {
			t.Errorf("step %d: other flows changed (-before +after):\n%s", i, d)
		}
		if got := w.current(); got != settings {
			t.Errorf("step %d: settings %+v, want %+v", i, got, settings)
		}
	}
	lost := errors.New("connection lost")
	settings.LogDenied = true
	w.sw.Fail(lost)
	if err := w.Configure(settings); !errors.Is(err, lost) {
		t.Errorf("error %v, want that of the switch", err)
	}
	w.sw.Fail(nil)
	if err := w.Configure(settings); err != nil || !slices.Contains(w.sw.updates, flows.OwnerDenied) {
		t.Errorf("what failed is not tried again: %v", err)
	}
}

// others are the flows outside of table Denied.
func (w *world) others() []string {
	var out []string
	for _, f := range w.sw.Flows() {
		if f.Table != pipeline.TableDenied {
			out = append(out, f.String())
		}
	}
	return out
}

func TestReport(t *testing.T) {
	w := newWorld(t)
	w.sw.packets = 7
	got, err := w.Report(t.Context())
	if d := cmp.Diff(Report{}, got); d != "" || err != nil {
		t.Errorf("%v, report before there is a State (-want +got):\n%s", err, d)
	}
	w.apply(state(0))
	for n := range 2 {
		w.attach(n, local(n))
	}
	got, err = w.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !got.Known || len(got.Rules) != 1 || len(got.Pods) != 2 {
		t.Fatalf("report %+v, want a rule and two Pods", got)
	}
	if d := cmp.Diff(flows.RuleCount{Packets: 14, Bytes: 1400, Sessions: 7}, got.Rules[0].RuleCount); d != "" {
		t.Errorf("rule (-want +got):\n%s", d)
	}
	denied := flows.DeniedCount{Packets: 7, Bytes: 700}
	want := []PodReport{
		{
			PodStatus: flows.PodStatus{LocalPod: local(0).local(), Isolated: [policy.Directions]bool{policy.Ingress: true}},
			Denied:    [policy.Directions]flows.DeniedCount{policy.Ingress: denied},
		},
		{
			PodStatus: flows.PodStatus{LocalPod: local(1).local(), Held: true},
			Denied:    [policy.Directions]flows.DeniedCount{denied, denied},
		},
	}
	if d := cmp.Diff(want, got.Pods); d != "" {
		t.Errorf("Pods (-want +got):\n%s", d)
	}
}
