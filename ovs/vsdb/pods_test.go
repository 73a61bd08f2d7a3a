// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestPodPorts(t *testing.T) {
	f := newFixture(t)
	startVswitchd(t, f.server.endpoint())
	ctx := t.Context()

	if _, err := f.client.AddPort(ctx, PodPort{Name: "wm1"}); err == nil || !strings.Contains(err.Error(), "br-int") {
		t.Errorf("AddPort without a bridge: %v", err)
	}
	f.apply(t, testLayout().Switch())

	ids := map[string]string{"pod-name": "web-1"}
	first, err := f.client.AddPort(ctx, PodPort{Name: "wm1", ExternalIDs: ids})
	if err != nil || first == 0 {
		t.Fatalf("AddPort: %d, %v", first, err)
	}
	if again, err := f.client.AddPort(ctx, PodPort{Name: "wm1", ExternalIDs: ids}); err != nil || again != first {
		t.Errorf("AddPort again: %d, %v, want %d", again, err, first)
	}
	ids["pod-name"] = "web-2"
	if again, err := f.client.AddPort(ctx, PodPort{Name: "wm1", ExternalIDs: ids}); err != nil || again != first {
		t.Errorf("AddPort with other IDs: %d, %v, want %d", again, err, first)
	}
	if _, err := f.client.AddPort(ctx, PodPort{Name: "wm-gw0"}); err == nil {
		t.Error("AddPort took the gateway port over")
	}
	if err := f.client.DelPort(ctx, "wm-gw0"); err == nil {
		t.Error("DelPort removed the gateway port")
	}
	if _, err := f.client.AddPort(ctx, PodPort{Name: "missing"}); err == nil || !strings.Contains(err.Error(), "No such device") {
		t.Errorf("AddPort of a missing device: %v", err)
	}
	got, err := f.client.Ports(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := []PortStatus{{
		Name: "wm1", Bridge: "br-int", OFPort: first,
		ExternalIDs: map[string]string{"pod-name": "web-2", OwnerKey: OwnerPod},
	}}
	if d := cmp.Diff(want, got, cmpopts.IgnoreFields(PortStatus{}, "Ifindex")); d != "" {
		t.Errorf("Ports (-want +got):\n%s", d)
	}
	// The agent's own reconciliation leaves Pod ports alone.
	if st := f.apply(t, testLayout().Switch()); st.Transactions != 0 {
		t.Errorf("%d transactions", st.Transactions)
	}
	for range 2 {
		if err := f.client.DelPort(ctx, "wm1"); err != nil {
			t.Errorf("DelPort: %v", err)
		}
	}
	if got, err := f.client.Ports(ctx); err != nil || len(got) != 0 {
		t.Errorf("Ports after DelPort: %v, %v", got, err)
	}
}

func TestSettle(t *testing.T) {
	f := newFixture(t)
	startVswitchd(t, f.server.endpoint())
	if err := f.client.Settle(t.Context()); err == nil {
		t.Error("a database without a root row is settled")
	}
	f.apply(t, testLayout().Switch())
	for range 2 {
		if err := f.client.Settle(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestAddPortUndoesItselfWhenItTimesOut(t *testing.T) {
	f := newFixture(t)
	startVswitchd(t, f.server.endpoint())
	f.apply(t, testLayout().Switch())
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the caller went away")
	go func() {
		waitForPort(f, "slow")
		cancel(gone)
	}()
	if _, err := f.client.AddPort(ctx, PodPort{Name: "slow"}); !errors.Is(err, gone) {
		t.Errorf("got error %v, want %v", err, gone)
	}
	if got, err := f.client.Ports(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("left behind: %v, %v", got, err)
	}
}

func waitForPort(f fixture, name string) {
	for {
		_, changed, err := f.client.current()
		if err != nil {
			return
		}
		ports, err := f.client.Ports(context.Background())
		if err != nil || slices.ContainsFunc(ports, func(p PortStatus) bool { return p.Name == name }) {
			return
		}
		<-changed
	}
}

func TestManyPortsAtOnce(t *testing.T) {
	f := newFixture(t)
	startVswitchd(t, f.server.endpoint())
	f.apply(t, testLayout().Switch())
	var wg sync.WaitGroup
	ofports := make([]uint32, 50)
	for i := range ofports {
		wg.Go(func() {
			n, err := f.client.AddPort(t.Context(), PodPort{Name: fmt.Sprintf("wm%d", i)})
			if err != nil {
				t.Errorf("AddPort: %v", err)
			}
			ofports[i] = n
		})
	}
	wg.Wait()
	slices.Sort(ofports)
	if n := len(slices.Compact(ofports)); n != 50 {
		t.Errorf("%d different OpenFlow ports, want 50", n)
	}
	for i := range ofports {
		wg.Go(func() {
			if err := f.client.DelPort(t.Context(), fmt.Sprintf("wm%d", i)); err != nil {
				t.Errorf("DelPort: %v", err)
			}
		})
	}
	wg.Wait()
	if got, err := f.client.Ports(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("left behind: %v, %v", got, err)
	}
}
