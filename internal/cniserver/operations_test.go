// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/waymark-net/waymark/internal/cniapi"
	"github.com/waymark-net/waymark/internal/podlink"
)

func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		prepare func(*testing.T, *node)
		change  func(*cniapi.Request)
		code    uint
		text    string
	}{
		"not ready": {
			prepare: func(_ *testing.T, n *node) { n.notReady = errors.New("no Pod CIDR") },
			code:    types.ErrTryAgainLater, text: "waymark is not ready: no Pod CIDR",
		},
		"status, not ready": {
			prepare: func(_ *testing.T, n *node) { n.notReady = errors.New("no Pod CIDR") },
			change:  func(r *cniapi.Request) { *r = call(cniapi.Status, "") },
			code:    types.ErrPluginNotAvailable, text: "no Pod CIDR",
		},
		"namespace gone": {
			prepare: func(_ *testing.T, n *node) { n.w.end("/ns/c1") },
			code:    types.ErrUnknownContainer, text: "does not exist",
		},
		"interface taken": {
			prepare: func(_ *testing.T, n *node) { n.w.taken["/ns/c1eth0"] = true },
			code:    cniapi.CodeConflict, text: "interface exists",
		},
		"duplicate container": {
			prepare: func(t *testing.T, n *node) {
				n.w.namespaces["/ns/other"] = true
				req := call(cniapi.Add, "c1")
				req.NetNS = "/ns/other"
				n.must(t, req)
			},
			code: cniapi.CodeConflict, text: "attached already: c1/eth0 in namespace /ns/other",
		},
		"exhausted": {
			prepare: func(t *testing.T, n *node) {
				n.settings.PodCIDRs = n.settings.PodCIDRs[:1]
				for i := range 251 {
					n.w.namespaces[fmt.Sprintf("/ns/x%d", i)] = true
					n.must(t, call(cniapi.Add, fmt.Sprintf("x%d", i)))
				}
			},
			code: types.ErrTryAgainLater, text: "IPv4 Pod CIDR 10.10.1.0/24: no free address",
		},
		"CHECK of nothing": {
			change: func(r *cniapi.Request) {
				r.Command = cniapi.Check
				r.Config = json.RawMessage(`{"cniVersion":"1.1.0","name":"waymark","prevResult":{"cniVersion":"1.1.0"}}`)
			},
			code: cniapi.CodeBroken, text: "is not attached",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, newWorld("/ns/c1"))
			if tc.prepare != nil {
				tc.prepare(t, n)
			}
			before := n.dump(t)
			req := call(cniapi.Add, "c1")
			if tc.change != nil {
				tc.change(&req)
			}
			_, err := n.do(t, req)
			wantCode(t, err, tc.code, tc.text)
			diff(t, "node", before, n.dump(t))
		})
	}
}

// TestFailedAddKeepsAddressesOfAPortThatStays: another Pod must not get them as
// long as the switch may forward for them.
func TestFailedAddKeepsAddressesOfAPortThatStays(t *testing.T) {
	n := newNode(t, newWorld("/ns/c1"))
	n.w.fails = map[string]error{"attach flows": errFault, "detach port": errFault}
	_, failed := n.do(t, call(cniapi.Add, "c1"))
	wantCode(t, failed, types.ErrInternal, errFault.Error())
	allocs, err := n.alloc.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(n.w.ports) != 1 || len(allocs) != 1 {
		t.Errorf("ports %v, addresses %v; want one of each", n.w.ports, allocs)
	}
	n.w.fails = nil
	n.must(t, call(cniapi.Del, "c1"))
	diff(t, "node", []string(nil), n.dump(t))
}

func TestCheck(t *testing.T) {
	host := podlink.HostInterface("c1", "eth0")
	tests := map[string]struct {
		damage func(*node, *current.Result)
		text   string // empty: whole
	}{
		"whole":           {damage: func(*node, *current.Result) {}},
		"link":            {func(n *node, _ *current.Result) { delete(n.w.links, host) }, "not as configured"},
		"flows":           {func(n *node, _ *current.Result) { delete(n.w.flows, host) }, "flows are missing"},
		"other addresses": {func(_ *node, r *current.Result) { r.IPs = r.IPs[:1] }, "prevResult does not list"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, newWorld("/ns/c1"))
			var prev current.Result
			if err := json.Unmarshal([]byte(n.must(t, call(cniapi.Add, "c1"))), &prev); err != nil {
				t.Fatal(err)
			}
			tc.damage(n, &prev)
			req := call(cniapi.Check, "c1")
			req.Config = withPrev(t, &prev)
			_, err := n.do(t, req)
			if tc.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantCode(t, err, cniapi.CodeBroken, tc.text)
		})
	}
}

func withPrev(t testing.TB, prev *current.Result) json.RawMessage {
	t.Helper()
	conf, err := json.Marshal(map[string]any{"cniVersion": "1.1.0", "name": "waymark", "prevResult": prev})
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

func TestGC(t *testing.T) {
	n := newNode(t, newWorld("/ns/c1", "/ns/c2", "/ns/c3"))
	for _, c := range []string{"c1", "c2"} {
		n.must(t, call(cniapi.Add, c))
	}
	other := call(cniapi.Add, "c3")
	other.Config = json.RawMessage(`{"cniVersion":"1.1.0","name":"other"}`)
	n.must(t, other)
	req := call(cniapi.GC, "")
	req.Config = json.RawMessage(`{"cniVersion":"1.1.0","name":"waymark",
		"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"},{"containerID":"c9","ifname":"eth0"}]}`)
	n.must(t, req)
	pods, err := n.Attachments()
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, p := range pods {
		left = append(left, p.ContainerID)
	}
	slices.Sort(left)
	diff(t, "attachments", []string{"c1", "c3"}, left)
	if got := len(n.dump(t)); got != 10 {
		t.Errorf("%d things left:\n%s", got, strings.Join(n.dump(t), "\n"))
	}
}

func TestSameContainerOneByOne(t *testing.T) {
	n := newNode(t, newWorld("/ns/c1"))
	var wg sync.WaitGroup
	results := make([]string, 20)
	for i := range results {
		wg.Go(func() { results[i] = n.must(t, call(cniapi.Add, "c1")) })
	}
	wg.Wait()
	for _, r := range results {
		diff(t, "result", results[0], r)
	}
	diff(t, "node", whole(podlink.HostInterface("c1", "eth0")), n.dump(t))
}

func TestReplacesWhatIsBroken(t *testing.T) {
	host := podlink.HostInterface("c1", "eth0")
	tests := map[string]func(*node, *cniapi.Request){
		"link lost":    func(n *node, _ *cniapi.Request) { delete(n.w.links, host) },
		"port lost":    func(n *node, _ *cniapi.Request) { delete(n.w.ports, host); delete(n.w.flows, host) },
		"link changed": func(n *node, _ *cniapi.Request) { n.w.links[host] = podlink.Link{} },
		"namespace made again": func(n *node, r *cniapi.Request) {
			n.w.end("/ns/c1")
			n.w.namespaces["/ns/new"] = true
			r.NetNS = "/ns/new"
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, newWorld("/ns/c1"))
			req := call(cniapi.Add, "c1")
			n.must(t, req)
			damage(n, &req)
			n.must(t, req)
			got := strings.ReplaceAll(strings.Join(n.dumpAnyAddress(t), "\n"), "/ns/new", "/ns/c1")
			diff(t, "node", strings.Join(whole(host), "\n"), got)
		})
	}
}
