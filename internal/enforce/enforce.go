// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/flows"
)

// Switch holds flows by owner. *openflow.Target implements it.
type Switch interface {
	Patch(changes ...flow.Change) error
	Sync(ctx context.Context, owners ...string) error
}

// Controllers is the way to the controllers. *stream.Client implements it.
type Controllers interface {
	// Connected returns nil while a controller is connected, and otherwise why
	// none is.
	Connected() error
}

// PodReader reads a Pod from the API server.
type PodReader interface {
	Pod(ctx context.Context, key policy.PodKey) (*policy.PodIntent, error)
}

// Params are what New needs.
type Params struct {
	Switch      Switch
	Controllers Controllers
	Pods        PodReader
	// Settings returns those in force. It is called at any time.
	Settings func() config.NetworkPolicy
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

	mu     sync.Mutex
	engine *flows.Engine
	// known says that there was an Update.
	known bool
	// pods are those of the State.
	pods map[policy.PodKey]policy.Pod
	// identities are those of the State.
	identities map[policy.ID]bool
	// adopted are Pods that started without a controller, as one of an identity
	// that was known. The State does not have them.
	adopted    map[policy.PodKey]policy.Pod
	interfaces map[string]Interface
	// changed is closed when there are new Pods.
	changed chan struct{}
}

// New returns an Enforcer that enforces nothing.
func New(params Params) *Enforcer {
	return &Enforcer{
		params: params, engine: flows.New(flows.Params{}),
		pods: map[policy.PodKey]policy.Pod{}, identities: map[policy.ID]bool{}, adopted: map[policy.PodKey]policy.Pod{},
		interfaces: map[string]Interface{}, changed: make(chan struct{}),
	}
}

// Known reports whether there was an Update. Before there is one the flows of
// an earlier run are all that enforces policies.
func (e *Enforcer) Known() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known
}

// Apply puts an Update into the switch and returns when the switch has it. The
// first one is a whole State. An error of the switch is one that will be tried
// again there: the Update counts as applied.
func (e *Enforcer) Apply(ctx context.Context, u *policy.Update) error {
	e.mu.Lock()
	changes := e.update(u)
	err := e.params.Switch.Patch(changes...)
	close(e.changed)
	e.changed = make(chan struct{})
	e.mu.Unlock()
	if err == nil {
		err = e.params.Switch.Sync(ctx, owners(changes)...)
	}
	if err != nil {
		return fmt.Errorf("policies: %w", err)
	}
	return nil
}

// update records an Update. The engine gets it with what the Pods that the
// State now has, or has no more, mean for interfaces.
func (e *Enforcer) update(u *policy.Update) []flow.Change {
	e.known = true
	for _, i := range u.Identities {
		e.identities[i.ID] = true
	}
	for _, id := range u.GoneIdentities {
		delete(e.identities, id)
	}
	for _, p := range u.Pods {
		e.pods[p.Key] = p
		delete(e.adopted, p.Key)
	}
	for _, k := range u.GonePods {
		delete(e.pods, k)
	}
	return e.engine.Apply(u)
}

// owners are those that changes name.
func owners(changes []flow.Change) []string {
	var all []string
	for _, c := range changes {
		all = append(all, c.Owner)
	}
	return all
}

// Await implements cniserver.Policies.
func (e *Enforcer) Await(ctx context.Context, namespace, name, uid string) error {
	key := policy.PodKey{Namespace: namespace, Name: name}
	settings := e.params.Settings()
	ctx, cancel := context.WithTimeoutCause(ctx, settings.PodTimeout,
		fmt.Errorf("the policies of Pod %s are not known after %s", key, settings.PodTimeout))
	defer cancel()
	for {
		ready, changed := e.ready(key, uid)
		if ready {
			return nil
		}
		away := e.params.Controllers.Connected()
		if away != nil && settings.WithoutController == config.WithoutControllerLastKnown {
			adopted, err := e.adopt(ctx, key, uid)
			if adopted {
				return nil
			}
			away = errors.Join(away, err)
		}
		select {
		case <-changed:
		case <-e.params.Controllers.Changed():
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), away)
		}
	}
}

// ready reports whether the Pod can start, and what to wait for if not.
func (e *Enforcer) ready(key policy.PodKey, uid string) (bool, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, known := range []map[policy.PodKey]policy.Pod{e.pods, e.adopted} {
		if p, ok := known[key]; ok && same(uid, p.UID) {
			return true, nil
		}
	}
	return false, e.changed
}

// same compares UIDs of which the first may be unknown.
func same(uid, other string) bool { return uid == "" || uid == other }

// adopt lets a Pod start that is like another one, of the last State.
func (e *Enforcer) adopt(ctx context.Context, key policy.PodKey, uid string) (bool, error) {
	pod, err := e.params.Pods.Pod(ctx, key)
	if err != nil {
		return false, err
	}
	if !same(uid, pod.UID) {
		return false, fmt.Errorf("the API server has Pod %s with UID %s, not %s", key, pod.UID, uid)
	}
	id := policy.IdentityOf(key.Namespace, pod.Labels, pod.Ports)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.known || !e.identities[id] {
		return false, errors.New("no Pod with its namespace, labels and named ports was on this node")
	}
	e.adopted[key] = policy.Pod{Key: key, UID: pod.UID, Identity: id}
	klog.FromContext(ctx).Info("No controller; the Pod starts under the policies of others like it",
		"pod", klog.KRef(key.Namespace, key.Name), "identity", id)
	return true, nil
}
