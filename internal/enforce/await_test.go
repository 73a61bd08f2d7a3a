// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/stream"
)

// away makes the controllers unreachable.
func (w *world) away() {
	w.api.set(stream.Status{Known: true, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Err: errors.New("no controller is known")})
}

// serve makes the API server have a Pod with the UID of Pod n and the labels of
// another.
func (w *world) serve(n, like int) {
	w.api.Lock()
	defer w.api.Unlock()
	w.api.pods[local(n).Pod] = policy.PodIntent{Key: local(n).Pod, UID: local(n).UID, Labels: labels(like)}
}

func settings(s config.WithoutController) config.NetworkPolicy {
	return config.NetworkPolicy{PodTimeout: 20 * time.Second, WithoutController: s}
}

func TestAwait(t *testing.T) {
	const timedOut = "the policies of Pod ns/pod-0 are not known after 20s: "
	later := func(d time.Duration, do func()) { time.AfterFunc(d, do) }
	for name, tc := range map[string]struct {
		settings config.WithoutController
		world    func(w *world)
		uid      string
		took     time.Duration
		err      string
	}{
		"known":            {world: func(w *world) { w.apply(state(0)) }},
		"UID not told":     {world: func(w *world) { w.apply(state(0)) }, uid: "-"},
		"arrives later":    {world: func(w *world) { later(3*time.Second, func() { w.apply(state(0)) }) }, took: 3 * time.Second},
		"another arrives":  {world: func(w *world) { later(3*time.Second, func() { w.apply(state(1)) }) }, took: 20 * time.Second, err: timedOut + "controller 10.1.1.1:10463 has not computed them yet"},
		"earlier Pod":      {world: func(w *world) { w.apply(state(0)) }, uid: "uid-new", took: 20 * time.Second, err: timedOut + "controller 10.1.1.1:10463 has not computed them yet"},
		"known, all away":  {world: func(w *world) { w.apply(state(0)); w.away() }},
		"away, Wait":       {settings: config.WithoutControllerWait, world: func(w *world) { w.apply(state(1)); w.serve(0, 1); w.away() }, took: 20 * time.Second, err: timedOut + "no controller is connected since 2026-01-02T03:04:05Z: no controller is known"},
		"never there":      {settings: config.WithoutControllerWait, world: func(w *world) { w.api.set(stream.Status{}) }, took: 20 * time.Second, err: timedOut + "no controller was connected yet"},
		"away, like one":   {world: func(w *world) { w.apply(state(1)); w.serve(0, 1); w.away() }},
		"away, like none":  {world: func(w *world) { w.apply(state(1)); w.serve(0, 0); w.away() }, took: 20 * time.Second, err: "no controller is known; no Pod of its namespace, labels and named ports is on this node"},
		"away, no State":   {world: func(w *world) { w.serve(0, 0); w.away() }, took: 20 * time.Second, err: "no Pod of its namespace, labels and named ports is on this node"},
		"away, no API":     {world: func(w *world) { w.apply(state(1)); w.away() }, took: 20 * time.Second, err: "no controller is known; no Pod ns/pod-0"},
		"API comes back":   {world: func(w *world) { w.apply(state(1)); w.away(); later(2500*time.Millisecond, func() { w.serve(0, 1) }) }, took: 3 * time.Second},
		"goes away":        {world: func(w *world) { w.apply(state(1)); w.serve(0, 1); later(2500*time.Millisecond, w.away) }, took: 3 * time.Second},
		"another UID":      {world: func(w *world) { w.apply(state(1)); w.serve(0, 1); w.away() }, uid: "uid-old", took: 20 * time.Second, err: "the API server has Pod ns/pod-0 with UID uid-0, the runtime with uid-old"},
		"away, comes back": {settings: config.WithoutControllerWait, world: func(w *world) { w.away(); later(5*time.Second, func() { w.apply(state(0)) }) }, took: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if tc.settings == "" {
					tc.settings = config.WithoutControllerLastKnown
				}
				if err := w.Configure(settings(tc.settings)); err != nil {
					t.Fatal(err)
				}
				tc.world(w)
				uid := local(0).UID
				if tc.uid != "" {
					uid = strings.TrimPrefix(tc.uid, "-")
				}
				start := time.Now()
				err := w.Await(t.Context(), "ns", "pod-0", uid)
				if took := time.Since(start); took != tc.took {
					t.Errorf("took %s, want %s", took, tc.took)
				}
				if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
			})
		})
	}
}

func TestAwaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		killed := errors.New("the plugin was killed")
		time.AfterFunc(time.Second, func() { cancel(killed) })
		if err := w.Await(ctx, "ns", "pod-0", "uid-0"); !errors.Is(err, killed) {
			t.Errorf("error %v, want the cause of the context", err)
		}
	})
}

// adopt starts Pod 0 as one like Pod 1, without a controller.
func (w *world) adoptPod() {
	w.t.Helper()
	w.serve(0, 1)
	w.away()
	if err := w.Await(w.t.Context(), "ns", "pod-0", "uid-0"); err != nil {
		w.t.Fatal(err)
	}
	w.attach(0, local(0))
}

// earlier is a record of an earlier Pod with the name of Pod 0.
func earlier() policy.Pod {
	p := record(0)
	p.UID = "uid-earlier"
	return p
}

func TestAdopted(t *testing.T) {
	// stored is the State that is on disk, or that the controller sends first.
	stored := func() *policy.Update { return state(1) }
	withEarlier := func() *policy.Update {
		u := state(1)
		u.Identities = append(u.Identities, &policy.Identity{ID: identityOf(0)})
		u.Pods = append(u.Pods, earlier())
		return u
	}
	like := func(uid string) policy.Pod { return policy.Pod{Key: local(0).Pod, UID: uid, Identity: identityOf(1)} }
	for name, tc := range map[string]struct {
		state func() *policy.Update
		after func(w *world)
		// want is who reaches the Pod, pods what the engine's State has of the
		// name, kept how many are adopted yet.
		want string
		pod  policy.Pod
		kept int
	}{
		"starts": {state: stored, after: func(*world) {}, want: allowed, pod: like("uid-0"), kept: 1},
		"restart": {state: stored, after: func(w *world) {
			w.restart()
			w.attach(0, local(0))
			w.apply(stored())
		}, want: allowed, pod: like("uid-0"), kept: 1},
		"restart, interface last": {state: stored, after: func(w *world) {
			w.restart()
			w.apply(stored())
			w.attach(0, local(0))
		}, want: allowed, pod: like("uid-0"), kept: 1},
		"restart, the State has it": {state: stored, after: func(w *world) {
			w.restart()
			w.apply(state(0, 1))
			w.attach(0, local(0))
		}, want: allowed, pod: record(0)},
		"restart, nobody like it is left": {state: stored, after: func(w *world) {
			w.restart()
			w.apply(state(2))
			w.attach(0, local(0))
		}, want: held, pod: like("uid-0"), kept: 1},
		"computed": {state: stored, after: func(w *world) { w.apply(state(0)) }, want: allowed, pod: record(0)},
		"computed and gone": {state: stored, after: func(w *world) {
			w.apply(state(0))
			w.apply(gone(0))
		}, want: held},
		"detached": {state: stored, after: func(w *world) {
			if err := w.Detach(local(0).Name); err != nil {
				w.t.Fatal(err)
			}
			w.attach(0, local(0))
		}, want: held},
		"earlier Pod":                  {state: withEarlier, after: func(*world) {}, want: allowed, pod: like("uid-0"), kept: 1},
		"earlier Pod, said to be gone": {state: withEarlier, after: func(w *world) { w.apply(gone(0)) }, want: allowed, pod: like("uid-0"), kept: 1},
		"earlier Pod, restart": {state: withEarlier, after: func(w *world) {
			w.restart()
			w.apply(withEarlier())
			w.attach(0, local(0))
		}, want: allowed, pod: like("uid-0"), kept: 1},
		"earlier Pod, detached": {state: withEarlier, after: func(w *world) {
			if err := w.Detach(local(0).Name); err != nil {
				w.t.Fatal(err)
			}
			w.attach(0, local(0))
		}, want: held, pod: earlier()},
		"earlier Pod, gone, detached": {state: withEarlier, after: func(w *world) {
			w.apply(gone(0))
			if err := w.Detach(local(0).Name); err != nil {
				w.t.Fatal(err)
			}
			w.attach(0, local(0))
		}, want: held},
		"another Pod's interface goes": {state: stored, after: func(w *world) {
			other := local(0)
			other.Name, other.Port, other.UID = "veth-other", 77, "uid-other"
			if _, err := w.Attach(other); err != nil {
				w.t.Fatal(err)
			}
			if err := w.Detach(other.Name); err != nil {
				w.t.Fatal(err)
			}
		}, want: allowed, pod: like("uid-0"), kept: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(tc.state())
			w.adoptPod()
			tc.after(w)
			w.wantReach(0, 10, tc.want)
			if d := cmp.Diff(tc.pod, w.engine.State().Pods[local(0).Pod]); d != "" {
				t.Errorf("record of the Pod (-want +got):\n%s", d)
			}
			if len(w.adopted) != tc.kept || len(w.loadAdopted()) != tc.kept {
				t.Errorf("%d Pods are adopted, %d in the file; want %d", len(w.adopted), len(w.loadAdopted()), tc.kept)
			}
			report, err := w.Report(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			said := 0
			for _, p := range report.Pods {
				if p.Adopted {
					said++
				}
			}
			if (said == 1) != (tc.kept == 1 && tc.want == allowed) {
				t.Errorf("%d Pods are reported as adopted", said)
			}
		})
	}
}

func TestAdoptedFileIsBroken(t *testing.T) {
	w := newWorld(t)
	if err := os.WriteFile(filepath.Join(w.dir, "adopted-pods.json"), []byte(`[{"UID"`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.apply(state(1))
	w.adoptPod()
	w.wantReach(0, 10, allowed)
	if n := len(w.loadAdopted()); n != 1 {
		t.Errorf("%d Pods in the file, want the new one", n)
	}
}

func FuzzAdopted(f *testing.F) {
	w := newWorld(f)
	w.adopted = map[policy.PodKey]policy.Pod{local(0).Pod: record(0), local(1).Pod: record(1)}
	w.saveAdopted()
	whole, err := os.ReadFile(w.adoptedFile())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, text := range []string{"", "null", "[]", "{}", "[{}]", `[{"Key":{"Namespace":"a","Name":"b"},"UID":"c","Identity":[1]}]`, string(whole[:len(whole)/2])} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		pods, err := parseAdopted(data)
		if err != nil {
			return
		}
		for key, p := range pods {
			if key != p.Key || key.Namespace == "" || key.Name == "" || p.UID == "" || p.Identity == (policy.ID{}) {
				t.Errorf("accepted %+v as %s", p, key)
			}
		}
		w := newWorld(t)
		w.adopted = pods
		w.saveAdopted()
		if d := cmp.Diff(pods, w.loadAdopted()); d != "" {
			t.Errorf("what was written and read (-want +got):\n%s", d)
		}
	})
}
