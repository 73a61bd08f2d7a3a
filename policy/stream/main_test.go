// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/stream/ca"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deadline is generous: nothing here takes long on an idle machine.
const deadline = 60 * time.Second

var compare = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmpopts.EquateEmpty(),
}

func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 10<<24+uint32(n))))
}

func id(n int) policy.ID { return policy.ID(binary.BigEndian.AppendUint64(make([]byte, 8), uint64(n))) }

func policyOf(n, priority int) *policy.Policy {
	return &policy.Policy{
		Key: policy.Key{Kind: policy.ClusterNetworkPolicy, Name: fmt.Sprint("p", n)}, Tier: policy.TierAdmin, Priority: int32(priority), Subject: id(n),
		Rules: []policy.Rule{{Action: policy.Deny, Subject: id(n), Peers: []policy.ID{id(1)}}},
	}
}

func group(n int, whole bool, addresses ...int) policy.GroupUpdate {
	g := policy.GroupUpdate{ID: id(n), Whole: whole}
	for _, a := range addresses {
		g.Added = append(g.Added, address(a))
	}
	return g
}

// basic is some policy.
func basic() *policy.Update {
	return &policy.Update{
		Policies:   []*policy.Policy{policyOf(1, 1), policyOf(2, 1)},
		Groups:     []policy.GroupUpdate{group(1, true, 1, 2, 3)},
		Identities: []*policy.Identity{{ID: id(5), Subjects: []policy.ID{id(1), id(2)}}},
		Pods:       []policy.Pod{{Key: policy.PodKey{Namespace: "ns", Name: "a"}, UID: "1", Identity: id(5)}},
	}
}

// computation is a Source of one replica.
type computation struct{ states map[string]*policy.State }

type deltas map[string]*policy.Update

func (d deltas) Updates(wanted func(string) bool) map[string]*policy.Update {
	some := map[string]*policy.Update{}
	for node, u := range d {
		if wanted(node) {
			some[node] = u
		}
	}
	return some
}

func (c *computation) View(node string) *policy.State {
	if s := c.states[node]; s != nil {
		return s.Clone()
	}
	return policy.NewState()
}

func (c *computation) Digests(node string) map[policy.ID]policy.Digest {
	digests := map[policy.ID]policy.Digest{}
	for id, set := range c.View(node).Groups {
		digests[id] = set.Digest()
	}
	return digests
}

// authority is the CA of a test's replicas.
func authority(t *testing.T) *ca.Authority {
	t.Helper()
	a, err := ca.New(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// auth takes "token of NODE".
type auth struct{}

func (auth) Authenticate(_ context.Context, token string) (string, error) {
	if node, ok := strings.CutPrefix(token, "token of "); ok {
		return node, nil
	}
	if token == "api server away" {
		return "", fmt.Errorf("away")
	}
	return "", fmt.Errorf("%w: %s", ErrUnauthenticated, token)
}

// replica is a controller.
type replica struct {
	source  *computation
	hub     *Hub
	server  *Server
	address netip.AddrPort
	version uint64
	stop    func()
	certify *ca.Signer
}

func startReplica(t *testing.T, a *ca.Authority) *replica {
	t.Helper()
	r := &replica{source: &computation{states: map[string]*policy.State{}}}
	r.certify = ca.NewSigner(ca.SignerParams{Name: ServerName, Now: time.Now})
	r.certify.Use(a)
	r.hub = NewHub(r.source)
	r.listen(t, "127.0.0.1:0")
	return r
}

func (r *replica) listen(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r.address = netip.MustParseAddrPort(listener.Addr().String())
	r.server = NewServer(ServerParams{Hub: r.hub, Auth: auth{}, TLS: r.certify.ServerTLS(), Registerer: prometheus.NewRegistry()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.server.Serve(ctx, listener) }()
	r.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(r.stop)
}

// publish changes what a node enforces.
func (r *replica) publish(updates map[string]*policy.Update) {
	r.hub.Update(func() Change {
		for node, u := range updates {
			if r.source.states[node] == nil {
				r.source.states[node] = policy.NewState()
			}
			r.source.states[node].Apply(u)
		}
		r.version++
		p := policy.Position{"pods": r.version}
		return Change{Deltas: deltas(updates), Newest: p, Reached: p}
	})
}

func (r *replica) sent() float64 { return testutil.ToFloat64(r.server.metrics.bytes) }

func (r *replica) refused(reason string) float64 {
	return testutil.ToFloat64(r.server.metrics.refused.WithLabelValues(reason))
}

// endpoints are those of a test's replicas.
type endpoints struct {
	mu      sync.Mutex
	list    []netip.AddrPort
	changed chan struct{}
}

func (e *endpoints) Controllers() ([]netip.AddrPort, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.changed == nil {
		e.changed = make(chan struct{})
	}
	return e.list, e.changed
}

func (e *endpoints) set(list ...netip.AddrPort) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = list
	if e.changed != nil {
		close(e.changed)
	}
	e.changed = make(chan struct{})
}

// agent is a client with its consumer.
type agent struct {
	*Client
	endpoints endpoints

	mu      sync.Mutex
	fail    error
	updates []*policy.Update
	state   *policy.State
	bundle  []byte
	token   string
	stop    func()
}

func (g *agent) Apply(_ context.Context, u *policy.Update) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail != nil {
		return g.fail
	}
	g.updates = append(g.updates, u)
	g.state.Apply(u)
	return nil
}

func startAgent(t *testing.T, node, folder string, bundle []byte, at ...netip.AddrPort) *agent {
	t.Helper()
	g := &agent{state: policy.NewState(), bundle: bundle, token: "token of " + node}
	g.endpoints.list = at
	locked := func(value func() string) func() (string, error) {
		return func() (string, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return value(), nil
		}
	}
	roots := locked(func() string { return string(g.bundle) })
	g.Client = NewClient(ClientParams{
		Node: node, Endpoints: &g.endpoints, Consumer: g, Now: time.Now,
		Bundle: func() ([]byte, error) { b, err := roots(); return []byte(b), err },
		Token:  locked(func() string { return g.token }),
		Disk:   Disk{Path: filepath.Join(folder, "policy"), Node: node},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Run(ctx) }()
	g.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(g.stop)
	return g
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	timeout := time.After(deadline)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-timeout:
			t.Fatalf("%s: not within %s", what, deadline)
		case <-tick.C:
		}
	}
}

// converge waits until the agent enforces what the replica computed.
func converge(t *testing.T, g *agent, r *replica, node string) {
	t.Helper()
	timeout := time.After(deadline)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		r.hub.mu.Lock()
		want := r.source.View(node)
		r.hub.mu.Unlock()
		g.mu.Lock()
		got := g.state.Clone()
		g.mu.Unlock()
		if reflect.DeepEqual(haveOf("", want, nil), haveOf("", got, nil)) {
			break
		}
		select {
		case <-timeout:
			t.Fatalf("the agent's state (-computed +enforced), %v:\n%s", g.Status().Err, cmp.Diff(want, got, compare))
		case <-tick.C:
		}
	}
	eventually(t, "acknowledgement", func() bool {
		revision, known := r.hub.Enforced(node)
		return known && revision == r.hub.Revision()
	})
}

func (g *agent) connectedTo(r *replica) func() bool {
	return func() bool { s := g.Status(); return s.Connected && s.Controller == r.address }
}

func clientTLS(t *testing.T, a *ca.Authority) *tls.Config {
	t.Helper()
	config, err := ca.ClientTLS(a.Bundle(), ServerName, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return config
}
