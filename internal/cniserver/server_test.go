// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/waymark-net/waymark/internal/cniapi"
	"github.com/waymark-net/waymark/internal/podlink"
)

const config110 = `{"cniVersion":"1.1.0","name":"waymark","type":"waymark-cni"}`

// call is a request for container c in namespace /ns/c.
func call(command cniapi.Command, c string) cniapi.Request {
	return cniapi.Request{
		Command: command, ContainerID: c, NetNS: "/ns/" + c, IfName: "eth0",
		Args:   "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-" + c + ";K8S_POD_UID=u-" + c,
		Config: json.RawMessage(config110),
	}
}

// do answers a request, returning the body and the CNI error.
func (n *node) do(t testing.TB, req cniapi.Request) (string, *types.Error) {
	t.Helper()
	body, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	result, cniErr := n.answer(context.Background(), body)
	return string(result), cniErr
}

func (n *node) must(t testing.TB, req cniapi.Request) string {
	t.Helper()
	result, err := n.do(t, req)
	if err != nil {
		t.Fatalf("%s: %v", req.Command, err)
	}
	return result
}

func wantCode(t testing.TB, err *types.Error, code uint, text string) {
	t.Helper()
	if err == nil || err.Code != code || !strings.Contains(err.Msg, text) {
		t.Errorf("got error %+v, want code %d and %q", err, code, text)
	}
}

func diff(t testing.TB, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, addrComparer, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// whole is the dump of a node with one attached container, c1.
func whole(host string) []string {
	return []string{
		"flows " + host,
		"link " + host + " /ns/c1:eth0 mtu 1450",
		"port " + host + " default/web-c1 [10.10.1.4 fd10:0:0:1::4]",
		"addresses c1/eth0 [10.10.1.4 fd10:0:0:1::4]",
		"record " + host,
	}
}

func TestAddResult(t *testing.T) {
	host := podlink.HostInterface("c1", "eth0")
	mac := podlink.MAC("c1", "eth0").String()
	tests := map[string]struct {
		config string
		want   string
	}{
		"1.1.0": {config110, `{
			"cniVersion": "1.1.0",
			"interfaces": [
				{"name": "` + host + `", "mtu": 1450},
				{"name": "eth0", "mac": "` + mac + `", "mtu": 1450, "sandbox": "/ns/c1"}],
			"ips": [
				{"interface": 1, "address": "10.10.1.4/32", "gateway": "10.10.1.1"},
				{"interface": 1, "address": "fd10:0:0:1::4/128", "gateway": "fd10:0:0:1::1"}],
			"routes": [
				{"dst": "0.0.0.0/0", "gw": "10.10.1.1"},
				{"dst": "::/0", "gw": "fd10:0:0:1::1"}]}`},
		"0.3.1": {`{"cniVersion":"0.3.1","name":"waymark"}`, `{
			"cniVersion": "0.3.1",
			"interfaces": [
				{"name": "` + host + `"},
				{"name": "eth0", "mac": "` + mac + `", "sandbox": "/ns/c1"}],
			"ips": [
				{"version": "4", "interface": 1, "address": "10.10.1.4/32", "gateway": "10.10.1.1"},
				{"version": "6", "interface": 1, "address": "fd10:0:0:1::4/128", "gateway": "fd10:0:0:1::1"}],
			"routes": [
				{"dst": "0.0.0.0/0", "gw": "10.10.1.1"},
				{"dst": "::/0", "gw": "fd10:0:0:1::1"}],
			"dns": {}}`},
		"after another plugin": {`{"cniVersion":"1.0.0","name":"waymark","prevResult":{"cniVersion":"1.0.0",
			"interfaces":[{"name":"lo","sandbox":"/ns/c1"}],
			"ips":[{"interface":0,"address":"127.0.0.1/8"}],"dns":{"nameservers":["10.96.0.10"]}}}`, `{
			"cniVersion": "1.0.0",
			"interfaces": [
				{"name": "lo", "sandbox": "/ns/c1"},
				{"name": "` + host + `", "mtu": 1450},
				{"name": "eth0", "mac": "` + mac + `", "mtu": 1450, "sandbox": "/ns/c1"}],
			"ips": [
				{"interface": 0, "address": "127.0.0.1/8"},
				{"interface": 2, "address": "10.10.1.4/32", "gateway": "10.10.1.1"},
				{"interface": 2, "address": "fd10:0:0:1::4/128", "gateway": "fd10:0:0:1::1"}],
			"routes": [
				{"dst": "0.0.0.0/0", "gw": "10.10.1.1"},
				{"dst": "::/0", "gw": "fd10:0:0:1::1"}],
			"dns": {"nameservers": ["10.96.0.10"]}}`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, newWorld("/ns/c1"))
			req := call(cniapi.Add, "c1")
			req.Config = json.RawMessage(tc.config)
			var want, got any
			for text, v := range map[string]*any{tc.want: &want, n.must(t, req): &got} {
				if err := json.Unmarshal([]byte(text), v); err != nil {
					t.Fatalf("%v in %s", err, text)
				}
			}
			diff(t, "result", want, got)
			diff(t, "node", whole(host), n.dump(t))
			again := n.must(t, req)
			if err := json.Unmarshal([]byte(again), &got); err != nil {
				t.Fatal(err)
			}
			diff(t, "result of the second ADD", want, got)
			diff(t, "node after the second ADD", whole(host), n.dump(t))
		})
	}
}

func TestDelIsIdempotent(t *testing.T) {
	w := newWorld("/ns/c1")
	n := newNode(t, w)
	n.must(t, call(cniapi.Add, "c1"))
	del := call(cniapi.Del, "c1")
	del.NetNS, del.Args = "", ""
	for range 3 {
		diff(t, "result", "{}", n.must(t, del))
		diff(t, "node", []string(nil), n.dump(t))
	}
}

func TestAddFailsWhole(t *testing.T) {
	for _, tc := range []struct {
		step string
		code uint
	}{
		{"allocate", types.ErrInternal},
		{"create link", types.ErrInternal},
		{"attach port", types.ErrInternal},
		{"attach flows", types.ErrInternal},
	} {
		t.Run(tc.step, func(t *testing.T) {
			n := newNode(t, newWorld("/ns/c1"))
			n.w.fails = map[string]error{tc.step: errFault}
			_, err := n.do(t, call(cniapi.Add, "c1"))
			wantCode(t, err, tc.code, errFault.Error())
			diff(t, "node", []string(nil), n.dump(t))
			n.w.fails = nil
			n.must(t, call(cniapi.Add, "c1"))
		})
	}
}

func TestAddUndoFails(t *testing.T) {
	for _, undo := range []string{"release", "delete link", "detach flows", "detach port"} {
		t.Run(undo, func(t *testing.T) {
			n := newNode(t, newWorld("/ns/c1"))
			n.w.fails = map[string]error{"attach flows": errFault, undo: errors.New("undo failure")}
			_, err := n.do(t, call(cniapi.Add, "c1"))
			wantCode(t, err, types.ErrInternal, "undo failure")
			n.w.fails = nil
			n.w.end("/ns/c1") // the runtime gives up without DEL
			if _, err := n.Reconcile(t.Context()); err != nil {
				t.Error(err)
			}
			diff(t, "node", []string(nil), n.dump(t))
		})
	}
}

// TestKilledAnywhere kills the agent before and after every changing step of ADD, and of
// DEL after it, and expects that a restarted agent leaks nothing, whatever the
// runtime then does.
func TestKilledAnywhere(t *testing.T) {
	runtimes := map[string]func(*testing.T, *node){
		"DEL": func(t *testing.T, n *node) {
			n.must(t, call(cniapi.Del, "c1"))
		},
		"reconcile and DEL": func(t *testing.T, n *node) {
			if _, err := n.Reconcile(t.Context()); err != nil {
				t.Error(err)
			}
			n.must(t, call(cniapi.Del, "c1"))
		},
		"namespace gone": func(t *testing.T, n *node) {
			n.w.end("/ns/c1")
			if _, err := n.Reconcile(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"reconcile, then namespace gone": func(t *testing.T, n *node) {
			for range 2 {
				if _, err := n.Reconcile(t.Context()); err != nil {
					t.Error(err)
				}
				n.w.end("/ns/c1")
			}
		},
		"GC": func(t *testing.T, n *node) {
			n.must(t, call(cniapi.GC, ""))
			// A port that counted as living was adopted; now it is known.
			n.must(t, call(cniapi.GC, ""))
		},
		"ADD again and DEL": func(t *testing.T, n *node) {
			n.must(t, call(cniapi.Add, "c1"))
			diff(t, "node after ADD", whole(podlink.HostInterface("c1", "eth0")), n.dumpAnyAddress(t))
			n.must(t, call(cniapi.Del, "c1"))
		},
	}
	for _, command := range []cniapi.Command{cniapi.Add, cniapi.Del} {
		for name, then := range runtimes {
			for step := 1; ; step++ {
				w := newWorld("/ns/c1")
				n := newNode(t, w)
				dir := strings.TrimSuffix(n.StateDir, "/attachments")
				if command == cniapi.Del {
					n.must(t, call(cniapi.Add, "c1"))
				}
				w.point, w.kill = 0, step
				killed := n.doKilled(t, call(command, "c1"))
				n.restart(t, dir)
				t.Run(fmt.Sprintf("%s/%s/%d", command, name, step), func(t *testing.T) {
					then(t, n)
					diff(t, "node", []string(nil), n.dump(t))
				})
				if !killed {
					break
				}
			}
		}
	}
}

// doKilled answers a request and reports whether the agent was killed meanwhile.
func (n *node) doKilled(t *testing.T, req cniapi.Request) (dead bool) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			if _, dead = r.(killed); !dead {
				panic(r)
			}
		}
	}()
	n.must(t, req)
	return false
}

// dumpAnyAddress is dump for a container that may hold the second address.
func (n *node) dumpAnyAddress(t *testing.T) []string {
	var out []string
	for _, line := range n.dump(t) {
		line = strings.ReplaceAll(line, "10.10.1.5", "10.10.1.4")
		out = append(out, strings.ReplaceAll(line, "fd10:0:0:1::5", "fd10:0:0:1::4"))
	}
	return out
}
