// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/flows"
)

// lookAgain is how often a Pod that waits looks whether the controllers have
// gone, or the API server has come back.
const lookAgain = time.Second

// Await implements cniserver.Policies.
func (e *Enforcer) Await(ctx context.Context, namespace, name, uid string) error {
	key := policy.PodKey{Namespace: namespace, Name: name}
	settings := e.current()
	ctx, cancel := context.WithTimeoutCause(ctx, settings.PodTimeout,
		fmt.Errorf("the policies of Pod %s are not known after %s", key, settings.PodTimeout))
	defer cancel()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		ready, changed := e.ready(key, uid)
		if ready {
			return nil
		}
		why := e.withoutController(ctx, settings, key, uid)
		if why == nil {
			continue // it is ready
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), why)
		}
	}
}

// ready reports whether the Pod can start, and what to wait for if not.
func (e *Enforcer) ready(key policy.PodKey, uid string) (bool, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, ok := e.engine.State().Pods[key]
	return ok && same(uid, p.UID), e.changed
}

// same compares UIDs of which the first may be unknown.
func same(uid, other string) bool { return uid == "" || uid == other }

// withoutController lets a Pod start while no controller is connected if that
// is wanted and possible, and returns why it waits otherwise.
func (e *Enforcer) withoutController(ctx context.Context, settings config.NetworkPolicy, key policy.PodKey, uid string) error {
	status := e.params.Status()
	if status.Connected {
		return fmt.Errorf("controller %s has not computed them yet", status.Controller)
	}
	away := fmt.Errorf("no controller is connected since %s: %w", status.Since.UTC().Format(time.RFC3339), status.Err)
	if status.Err == nil {
		away = errors.New("no controller was connected yet")
	}
	if settings.WithoutController != config.WithoutControllerLastKnown {
		return away
	}
	if err := e.adopt(ctx, key, uid); err != nil {
		return fmt.Errorf("%w; %w", away, err)
	}
	return nil
}

// adopt lets a Pod start that is like another one.
func (e *Enforcer) adopt(ctx context.Context, key policy.PodKey, uid string) error {
	pod, err := e.params.Pods.Pod(ctx, key)
	if err != nil {
		return err
	}
	if !same(uid, pod.UID) {
		return fmt.Errorf("the API server has Pod %s with UID %s, the runtime with %s", key, pod.UID, uid)
	}
	id := policy.IdentityOf(key.Namespace, pod.Labels, pod.Ports)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.engine.State().Identities[id] == nil {
		return errors.New("no Pod of its namespace, labels and named ports is on this node")
	}
	p := policy.Pod{Key: key, UID: pod.UID, Identity: id}
	if before, is := e.engine.State().Pods[key]; is {
		if _, adopted := e.adopted[key]; !adopted {
			e.covered[key] = before
		}
	}
	e.adopted[key] = p
	e.saveAdopted()
	klog.FromContext(ctx).Info("No controller; the Pod starts under the policies of others like it",
		"pod", klog.KRef(key.Namespace, key.Name), "identity", id)
	_, err = e.apply(flows.Change{Update: &policy.Update{Pods: []policy.Pod{p}}})
	return err
}

func (e *Enforcer) adoptedFile() string { return filepath.Join(e.params.Dir, "adopted-pods.json") }

// saveAdopted keeps the Pods that the State does not have for the next run. If
// that fails they are cut off when the agent starts again without a controller.
func (e *Enforcer) saveAdopted() {
	list := make([]policy.Pod, 0, len(e.adopted))
	for _, p := range e.adopted {
		list = append(list, p)
	}
	data, err := json.Marshal(list)
	if err == nil {
		err = os.WriteFile(e.adoptedFile()+".tmp", data, 0o600)
	}
	if err == nil {
		err = os.Rename(e.adoptedFile()+".tmp", e.adoptedFile())
	}
	if err != nil {
		klog.Background().Error(err, "Cannot keep which Pods started without a controller", "pods", len(list))
	}
}

// loadAdopted reads what saveAdopted wrote.
func (e *Enforcer) loadAdopted() map[policy.PodKey]policy.Pod {
	pods := map[policy.PodKey]policy.Pod{}
	data, err := os.ReadFile(e.adoptedFile())
	if errors.Is(err, fs.ErrNotExist) {
		return pods
	}
	if err == nil {
		pods, err = parseAdopted(data)
	}
	if err != nil {
		klog.Background().Error(err, "Cannot read which Pods started without a controller", "file", e.adoptedFile())
		return map[policy.PodKey]policy.Pod{}
	}
	return pods
}

// parseAdopted reads the content of the file. One that is not whole is refused
// as a whole.
func parseAdopted(data []byte) (map[policy.PodKey]policy.Pod, error) {
	var list []policy.Pod
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, err
	}
	pods := map[policy.PodKey]policy.Pod{}
	for i, p := range list {
		if p.Key.Namespace == "" || p.Key.Name == "" || p.UID == "" || p.Identity == (policy.ID{}) {
			return nil, fmt.Errorf("entry %d: a Pod has a namespace, a name, a UID and an identity", i)
		}
		pods[p.Key] = p
	}
	return pods, nil
}
