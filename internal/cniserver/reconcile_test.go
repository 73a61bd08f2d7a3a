// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/cniapi"
	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/ipam"
)

func TestReconcile(t *testing.T) {
	host := podlink.HostInterface("c1", "eth0")
	replaced := func(old, new string) []string {
		return strings.Split(strings.ReplaceAll(strings.Join(whole(host), "\n"), old, new), "\n")
	}
	release := func(t *testing.T, n *node) {
		if err := n.alloc.Release(context.Background(), ipam.Owner{ContainerID: "c1", IfName: "eth0"}); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		damage func(*testing.T, *node)
		want   []string
		err    string
	}{
		"nothing": {func(*testing.T, *node) {}, whole(host), ""},
		"switch wiped": {func(_ *testing.T, n *node) {
			clear(n.w.ports)
			clear(n.w.flows)
		}, whole(host), ""},
		"link deleted":       {func(_ *testing.T, n *node) { clear(n.w.links) }, whole(host), ""},
		"MTU changed":        {func(_ *testing.T, n *node) { n.settings.MTU = 8950 }, replaced("mtu 1450", "mtu 8950"), ""},
		"addresses released": {release, whole(host), ""},
		"records lost": {func(t *testing.T, n *node) {
			if err := os.RemoveAll(n.StateDir); err != nil {
				t.Fatal(err)
			}
		}, whole(host), ""},
		"record unreadable": {func(t *testing.T, n *node) {
			if err := os.WriteFile(n.records.path(host), []byte(`{"containerID":`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, whole(host), ""},
		"records and addresses lost": {func(t *testing.T, n *node) {
			release(t, n)
			if err := os.RemoveAll(n.StateDir); err != nil {
				t.Fatal(err)
			}
		}, whole(host), ""},
		"record lost, outside of the Pod CIDR": {func(t *testing.T, n *node) {
			if err := os.RemoveAll(n.StateDir); err != nil {
				t.Fatal(err)
			}
			n.settings.PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.99.0.0/24")}
		}, whole(host)[:4], "address 10.10.1.4 is in no Pod CIDR"},
		"address given to another": {func(t *testing.T, n *node) {
			release(t, n)
			other := ipam.Owner{ContainerID: "c2", IfName: "eth0"}
			if err := n.alloc.Reserve(context.Background(), other, []netip.Addr{netip.MustParseAddr("10.10.1.4")}); err != nil {
				t.Fatal(err)
			}
			n.w.namespaces["/ns/c2"] = true
			if err := n.records.put(attachment{
				PodInterface: PodInterface{
					ContainerID: "c2", IfName: "eth0", NetNS: "/ns/c2", HostInterface: podlink.HostInterface("c2", "eth0"),
					MAC: podlink.MAC("c2", "eth0"), Addresses: []netip.Addr{netip.MustParseAddr("10.10.1.4")},
				},
				Gateways: []netip.Addr{netip.MustParseAddr("10.10.1.1")},
			}); err != nil {
				t.Fatal(err)
			}
			if _, err := n.Reconcile(t.Context()); err == nil {
				t.Error("no error")
			}
			if err := n.detach(t.Context(), other, podlink.HostInterface("c2", "eth0")); err != nil {
				t.Fatal(err)
			}
		}, whole(host), ""},
		"namespace gone":            {func(_ *testing.T, n *node) { n.w.end("/ns/c1") }, nil, ""},
		"namespace gone, not ready": {func(_ *testing.T, n *node) { n.w.end("/ns/c1"); n.settings = Settings{}; n.notReady = errFault }, nil, ""},
		"switch wiped, nothing known yet": {func(_ *testing.T, n *node) {
			clear(n.w.ports)
			clear(n.w.flows)
			n.settings = Settings{}
			n.notReady = errFault
		}, whole(host), ""},
		"only a link": {func(t *testing.T, n *node) {
			release(t, n)
			clear(n.w.ports)
			clear(n.w.flows)
			if err := n.records.remove(host); err != nil {
				t.Fatal(err)
			}
		}, nil, ""},
		"switch down, Pod lives": {func(_ *testing.T, n *node) { n.w.down = true }, whole(host), "switch is down"},
		"switch down, record lost": {func(t *testing.T, n *node) {
			n.w.down = true
			if err := n.records.remove(host); err != nil {
				t.Fatal(err)
			}
		}, whole(host)[:4], "switch is down"},
		// The address stays taken as long as the switch may forward for it.
		"switch down, namespace gone": {func(_ *testing.T, n *node) { n.w.down = true; n.w.end("/ns/c1") }, []string{
			whole(host)[0], whole(host)[2], whole(host)[3],
		}, "switch is down"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, newWorld("/ns/c1"))
			n.must(t, call(cniapi.Add, "c1"))
			tc.damage(t, n)
			_, err := n.Reconcile(t.Context())
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("got error %v, want %q", err, tc.err)
			}
			diff(t, "node", tc.want, n.dump(t))
		})
	}
}

func TestReconcileLeavesBusyAlone(t *testing.T) {
	n := newNode(t, newWorld("/ns/c1"))
	n.must(t, call(cniapi.Add, "c1"))
	n.w.end("/ns/c1")
	before := n.dump(t)
	unlock, err := n.locks.lock(t.Context(), podlink.HostInterface("c1", "eth0"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Reconcile(t.Context()); err != nil {
		t.Error(err)
	}
	diff(t, "node", before, n.dump(t))
	unlock()
	if _, err := n.Reconcile(t.Context()); err != nil {
		t.Error(err)
	}
	diff(t, "node", []string(nil), n.dump(t))
}

func TestReconcileGoesOnPastFailures(t *testing.T) {
	n := newNode(t, newWorld("/ns/c1", "/ns/c2"))
	n.must(t, call(cniapi.Add, "c1"))
	n.must(t, call(cniapi.Add, "c2"))
	n.w.end("/ns/c1")
	clear(n.w.ports)
	n.w.fails = map[string]error{"delete link": errFault}
	if _, err := n.Reconcile(t.Context()); err == nil || !strings.Contains(err.Error(), podlink.HostInterface("c1", "eth0")) {
		t.Errorf("got error %v", err)
	}
	if _, ok := n.w.ports[podlink.HostInterface("c2", "eth0")]; !ok {
		t.Error("the other Pod was not attached again")
	}
}

// deafSwitch never answers about one interface.
type deafSwitch struct {
	Switch
	host string
}

func (s deafSwitch) AttachPod(ctx context.Context, pod PodInterface) error {
	if pod.HostInterface == s.host {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Switch.AttachPod(ctx, pod)
}

func TestReconcileGoesOnWhereTheSwitchDoesNotAnswer(t *testing.T) {
	n := newNode(t, newWorld("/ns/c1", "/ns/c2"))
	n.must(t, call(cniapi.Add, "c1"))
	n.must(t, call(cniapi.Add, "c2"))
	clear(n.w.ports)
	first, second := podlink.HostInterface("c1", "eth0"), podlink.HostInterface("c2", "eth0")
	if second < first {
		first, second = second, first
	}
	n.Switch, n.Timeout = deafSwitch{n.Switch, first}, 500*time.Millisecond
	if _, err := n.Reconcile(t.Context()); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), first) {
		t.Errorf("got error %v", err)
	}
	if _, ok := n.w.ports[second]; !ok {
		t.Error("the other Pod was not attached again")
	}
}
