// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/stream"
)

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

// surroundings are the API server's Pods and the connection with a controller.
type surroundings struct {
	sync.Mutex
	pods   map[policy.PodKey]policy.PodIntent
	status stream.Status
}

func (s *surroundings) Pod(_ context.Context, key policy.PodKey) (policy.PodIntent, error) {
	s.Lock()
	defer s.Unlock()
	p, ok := s.pods[key]
	if !ok {
		return p, fmt.Errorf("no Pod %s", key)
	}
	return p, nil
}

func (s *surroundings) get() stream.Status {
	s.Lock()
	defer s.Unlock()
	return s.status
}

func (s *surroundings) set(status stream.Status) {
	s.Lock()
	defer s.Unlock()
	s.status = status
}

// world is an Enforcer and what it works with.
type world struct {
	*Enforcer
	t   testing.TB
	sw  *fakeSwitch
	api *surroundings
	dir string
	// changed counts calls of Params.Changed.
	changed int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), api: &surroundings{
		pods: map[policy.PodKey]policy.PodIntent{}, status: stream.Status{Connected: true, Controller: netip.MustParseAddrPort("10.1.1.1:10463")},
	}}
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
		Switch: w.sw, Status: w.api.get, Pods: w.api, Dir: w.dir, Changed: func() { w.changed++ },
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
	w.sw.ForgetAllConnections()
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
