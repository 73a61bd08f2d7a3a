// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/flows"
	"github.com/waymark-net/waymark/policy/stream"
)

// Switch holds flows by owner. *openflow.Target implements it.
type Switch interface {
	Update(owner string, flows []flow.Flow, groups []flow.Group) error
	Patch(changes ...flow.Change) error
	Prune(live func(owner string) bool) int
	Sync(ctx context.Context, owners ...string) error
	Inject(ctx context.Context, inPort uint32, frame []byte, actions []flow.Action) error
	Counters(ctx context.Context, filter openflow.CounterFilter) ([]openflow.FlowCounter, error)
}

// PodReader reads a Pod from the API server.
type PodReader interface {
	Pod(ctx context.Context, key policy.PodKey) (policy.PodIntent, error)
}

// Params are what New needs.
type Params struct {
	Switch Switch
	// Status tells of the connection with a controller.
	Status func() stream.Status
	Pods   PodReader
	// Dir holds what outlives the agent beside the State: the Pods that started
	// without a controller.
	Dir string
	// Changed, which may be nil, is called when the first Update was applied.
	Changed func()
}

// Interface is an interface of a Pod that is attached to the switch.
type Interface struct {
	// Name is that of the host's end; it identifies the interface.
	Name string
	Pod  policy.PodKey
	UID  string // empty when the runtime did not tell
	// Port is its OpenFlow port.
	Port uint32
}

// Enforcer keeps the node's policies in the switch.
type Enforcer struct {
	params Params

	mu sync.Mutex
	// settings are those in force; configured says that somebody said so.
	settings   config.NetworkPolicy
	configured bool
	engine     *flows.Engine
	// known says that there was an Update. Until then the engine has nothing.
	known bool
	// behind says that the switch's intent is not what the engine takes it for.
	behind bool
	// adopted are Pods that started without a controller, under the identity of
	// others. The State that the controller sent does not have them, that of the
	// engine does.
	adopted map[policy.PodKey]policy.Pod
	// covered are records of the State, of earlier Pods, in whose place the
	// engine has an adopted one.
	covered map[policy.PodKey]policy.Pod
	// interfaces by name.
	interfaces map[string]Interface
	// changed is closed when there may be new Pods.
	changed chan struct{}

	stats stats
}

// New returns an Enforcer that enforces nothing, with the default settings.
func New(params Params) *Enforcer {
	return &Enforcer{
		params: params, settings: config.Default().NetworkPolicy, engine: flows.New(flows.Params{}),
		adopted: map[policy.PodKey]policy.Pod{}, covered: map[policy.PodKey]policy.Pod{},
		interfaces: map[string]Interface{}, changed: make(chan struct{}),
	}
}

// Configure puts settings into force. Until it is called what an earlier run
// said of denied packets stays in the switch.
func (e *Enforcer) Configure(settings config.NetworkPolicy) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.configured && e.settings == settings {
		return nil
	}
	e.settings = settings
	denied := flows.Denied{Log: settings.LogDenied, Meter: DeniedMeter().ID}
	if err := e.params.Switch.Update(flows.OwnerDenied, denied.Flows(), nil); err != nil {
		return fmt.Errorf("denied packets: %w", err)
	}
	e.configured = true
	return nil
}

// current returns the settings in force.
func (e *Enforcer) current() config.NetworkPolicy {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.settings
}

// Known reports whether there was an Update. Before there is one the flows of
// an earlier run are all that enforces policies.
func (e *Enforcer) Known() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known
}

// Apply puts an Update into the switch and returns when the switch has it. The
// first one is a whole State. It implements stream.Consumer.
func (e *Enforcer) Apply(ctx context.Context, u *policy.Update) error {
	owners, err := e.update(u)
	if err == nil {
		err = e.params.Switch.Sync(ctx, owners...)
	}
	if err != nil {
		return fmt.Errorf("policies: %w", err)
	}
	return nil
}

// update records an Update and returns the owners of the flows that it changed.
func (e *Enforcer) update(u *policy.Update) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var change flows.Change
	if e.known {
		change.Update = e.settle(u)
	} else {
		e.known = true
		change = e.begin(u)
		if e.params.Changed != nil {
			defer e.params.Changed()
		}
	}
	close(e.changed)
	e.changed = make(chan struct{})
	return e.apply(change)
}

// begin is the first change that the engine gets: the State, the Pods that
// started without a controller, and all interfaces. The State may have earlier
// Pods of the same names: it may be that of before.
func (e *Enforcer) begin(u *policy.Update) flows.Change {
	all := *u
	all.Pods = slices.Clone(u.Pods)
	e.adopted = e.loadAdopted()
	for key, p := range e.adopted {
		at := slices.IndexFunc(all.Pods, func(p policy.Pod) bool { return p.Key == key })
		switch {
		case at < 0:
			all.Pods = append(all.Pods, p)
		case all.Pods[at].UID == p.UID:
			delete(e.adopted, key)
			defer e.saveAdopted()
		default:
			e.covered[key], all.Pods[at] = all.Pods[at], p
		}
	}
	change := flows.Change{Update: &all}
	for _, i := range e.interfaces {
		change.Attached = append(change.Attached, i.local())
	}
	return change
}

// settle returns an Update with what it says of adopted Pods put right: what
// the controllers have is adopted no more, and that an earlier Pod of the name
// is gone does not concern an adopted one.
func (e *Enforcer) settle(u *policy.Update) *policy.Update {
	for _, p := range u.Pods {
		delete(e.covered, p.Key)
		if _, was := e.adopted[p.Key]; was {
			delete(e.adopted, p.Key)
			defer e.saveAdopted()
		}
	}
	concerns := func(k policy.PodKey) bool { _, is := e.adopted[k]; return is }
	if !slices.ContainsFunc(u.GonePods, concerns) {
		return u
	}
	settled := *u
	settled.GonePods = nil
	for _, k := range u.GonePods {
		if concerns(k) {
			delete(e.covered, k)
			continue
		}
		settled.GonePods = append(settled.GonePods, k)
	}
	return &settled
}

// apply has the engine take a change, records what came of it in the switch and
// returns the owners of the flows that changed.
func (e *Enforcer) apply(c flows.Change) ([]string, error) {
	patch := e.engine.Apply(c)
	var refused error
	if !e.behind {
		if refused = e.params.Switch.Patch(patch.Changes...); refused == nil {
			return patch.Owners(), nil
		}
	}
	owners, err := e.declareAll()
	e.behind = err != nil
	return owners, errors.Join(refused, err)
}

// declareAll declares all flows anew, as an engine makes them that begins with
// the State and the interfaces as they are.
func (e *Enforcer) declareAll() ([]string, error) {
	before := e.engine.State()
	e.engine = flows.New(flows.Params{})
	change := flows.Change{Update: before.Whole()}
	for _, i := range e.interfaces {
		change.Attached = append(change.Attached, i.local())
	}
	patch := e.engine.Apply(change)
	live := append(patch.Owners(), flows.OwnerDenied)
	e.params.Switch.Prune(func(owner string) bool { return !IsOwner(owner) || slices.Contains(live, owner) })
	var errs []error
	for _, c := range patch.Changes {
		errs = append(errs, e.params.Switch.Update(c.Owner, c.Set, nil))
	}
	return patch.Owners(), errors.Join(errs...)
}

// IsOwner reports whether an owner of flows is one of the Enforcer's.
func IsOwner(owner string) bool { return strings.HasPrefix(owner, flows.OwnerPrefix) }

func (i Interface) local() flows.LocalPod {
	return flows.LocalPod{Port: i.Port, Pod: i.Pod, UID: i.UID, HoldUnknown: true}
}

// Attach puts the policies of an interface into the switch, before its Pod can
// send, and returns the owners of the flows that it changed. An interface that
// is attached already may have another port.
func (e *Enforcer) Attach(i Interface) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	had, again := e.interfaces[i.Name]
	e.interfaces[i.Name] = i
	if !e.known {
		return nil, nil
	}
	change := flows.Change{Attached: []flows.LocalPod{i.local()}}
	if again && had.Port != i.Port {
		change.Detached = []uint32{had.Port}
	}
	return e.apply(change)
}

// Detach takes the policies of an interface out. It is no error when there is
// no such interface.
func (e *Enforcer) Detach(name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	had, ok := e.interfaces[name]
	if !ok {
		return nil
	}
	delete(e.interfaces, name)
	if !e.known {
		return nil
	}
	change := flows.Change{Detached: []uint32{had.Port}}
	if p, was := e.adopted[had.Pod]; was && same(had.UID, p.UID) {
		delete(e.adopted, had.Pod)
		defer e.saveAdopted()
		change.Update = &policy.Update{GonePods: []policy.PodKey{had.Pod}}
		if p, is := e.covered[had.Pod]; is {
			delete(e.covered, had.Pod)
			change.Update = &policy.Update{Pods: []policy.Pod{p}}
		}
	}
	_, err := e.apply(change)
	return err
}
