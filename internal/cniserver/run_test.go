// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"go.uber.org/goleak"

	"github.com/waymark-net/waymark/internal/cniapi"
	"github.com/waymark-net/waymark/internal/cniclient"
	"github.com/waymark-net/waymark/internal/podlink"
)

// running is a node whose server listens, and how to stop it.
func running(t *testing.T, w *world) (*node, func() error) {
	t.Helper()
	n := newNode(t, w)
	dir, err := os.MkdirTemp("", "waymark") // a socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	n.SocketPath = dir + "/cni.sock"
	// What an agent that was killed left.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: n.SocketPath, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	return n, func() error { cancel(); return <-done }
}

// plugin runs the plugin's code against the node.
func (n *node) plugin(command cniapi.Command, c string) (string, error) {
	var out bytes.Buffer
	funcs := cniclient.New(cniclient.Params{Stdout: &out}).Funcs()
	req := call(command, c)
	run := map[cniapi.Command]func(*skel.CmdArgs) error{
		cniapi.Add: funcs.Add, cniapi.Del: funcs.Del, cniapi.Check: funcs.Check, cniapi.GC: funcs.GC, cniapi.Status: funcs.Status,
	}[command]
	err := run(&skel.CmdArgs{
		ContainerID: req.ContainerID, Netns: req.NetNS, IfName: req.IfName, Args: req.Args,
		StdinData: []byte(strings.TrimSuffix(config110, "}") + `,"socket":"` + n.SocketPath + `"}`),
	})
	return out.String(), err
}

func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	w := newWorld()
	for i := range 50 {
		w.namespaces[fmt.Sprintf("/ns/c%d", i)] = true
	}
	n, stop := running(t, w)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			c := fmt.Sprintf("c%d", i)
			out, err := n.plugin(cniapi.Add, c)
			if err != nil || !strings.Contains(out, "/ns/"+c) {
				t.Errorf("ADD %s: %v, %s", c, err, out)
			}
		})
	}
	wg.Wait()
	if fi, err := os.Stat(n.SocketPath); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", fi, err)
	}
	if out, err := n.plugin(cniapi.Status, ""); err != nil || out != "" {
		t.Errorf("STATUS: %v, %s", err, out)
	}
	for i := range 50 {
		wg.Go(func() {
			if _, err := n.plugin(cniapi.Del, fmt.Sprintf("c%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	diff(t, "node", []string(nil), n.dump(t))
	n.notReady = errors.New("Open vSwitch is down")
	for command, code := range map[cniapi.Command]uint{cniapi.Add: types.ErrTryAgainLater, cniapi.Status: types.ErrPluginNotAvailable} {
		_, err := n.plugin(command, "c1")
		var cniErr *types.Error
		if !errors.As(err, &cniErr) {
			t.Fatalf("%s: %v", command, err)
		}
		wantCode(t, cniErr, code, "Open vSwitch is down")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestRunRefusesOtherHTTP(t *testing.T) {
	n, stop := running(t, newWorld())
	if _, err := n.plugin(cniapi.Del, "c1"); err != nil { // waits for the server
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", n.SocketPath)
		},
	}}
	for _, tc := range []struct {
		method, path string
		body         io.Reader
		status       int
		text         string
	}{
		{http.MethodGet, cniapi.Path, nil, http.StatusMethodNotAllowed, ""},
		{http.MethodPost, "/", nil, http.StatusNotFound, ""},
		{http.MethodPost, cniapi.Path, strings.NewReader("garbage"), http.StatusBadRequest, `"code":6`},
		{http.MethodPost, cniapi.Path, strings.NewReader(strings.Repeat(" ", maxRequest+1)), http.StatusBadRequest, `"code":5`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tc.method, "http://agent"+tc.path, tc.body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != tc.status || !strings.Contains(string(body), tc.text) {
			t.Errorf("%s %s: %s %s", tc.method, tc.path, resp.Status, body)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// slowSwitch attaches when it is told to.
type slowSwitch struct {
	fakeSwitch
	begun, proceed chan struct{}
}

func (s slowSwitch) AttachPod(ctx context.Context, pod PodInterface) error {
	close(s.begun)
	select {
	case <-s.proceed:
		return s.fakeSwitch.AttachPod(ctx, pod)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestStopFinishesRequests(t *testing.T) {
	n, stop := running(t, newWorld("/ns/c1"))
	slow := slowSwitch{fakeSwitch{n.w}, make(chan struct{}), make(chan struct{})}
	n.Switch = slow
	added := make(chan error, 1)
	go func() {
		_, err := n.plugin(cniapi.Add, "c1")
		added <- err
	}()
	<-slow.begun
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(slow.proceed)
	if err := <-added; err != nil {
		t.Error(err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestPluginKilledDuringAdd: the runtime hears nothing of an ADD whose plugin
// was killed, so nothing of it may stay.
func TestPluginKilledDuringAdd(t *testing.T) {
	n, stop := running(t, newWorld("/ns/c1"))
	if _, err := n.plugin(cniapi.Del, "c1"); err != nil { // waits for the server
		t.Fatal(err)
	}
	slow := slowSwitch{fakeSwitch{n.w}, make(chan struct{}), make(chan struct{})}
	n.Switch = slow
	body, err := json.Marshal(call(cniapi.Add, "c1"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", n.SocketPath)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: agent\r\nContent-Length: %d\r\n\r\n%s", cniapi.Path, len(body), body); err != nil {
		t.Fatal(err)
	}
	<-slow.begun
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil { // when the request is through
		t.Error(err)
	}
	diff(t, "node", []string(nil), n.dump(t))
}

func TestAddTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newWorld("/ns/c1"))
		n.Switch = slowSwitch{fakeSwitch{n.w}, make(chan struct{}), make(chan struct{})}
		start := time.Now()
		_, err := n.do(t, call(cniapi.Add, "c1"))
		wantCode(t, err, types.ErrTryAgainLater, "deadline exceeded")
		diff(t, "time", defaultTimeout, time.Since(start))
		diff(t, "node", []string(nil), n.dump(t))
	})
}

func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newWorld("/ns/c1"))
		for range cap(n.slots) {
			n.slots <- struct{}{}
		}
		_, cniErr := n.do(t, call(cniapi.Add, "c1"))
		wantCode(t, cniErr, types.ErrTryAgainLater, "waiting for other requests")
		<-n.slots
		unlock, err := n.locks.lock(t.Context(), podlink.HostInterface("c1", "eth0"))
		if err != nil {
			t.Fatal(err)
		}
		_, cniErr = n.do(t, call(cniapi.Add, "c1"))
		wantCode(t, cniErr, types.ErrTryAgainLater, "waiting for another request of the container")
		unlock()
		n.must(t, call(cniapi.Add, "c1"))
		if len(n.locks.keys) != 0 {
			t.Errorf("locks are left: %v", n.locks.keys)
		}
	})
}

// TestPodsThatAwaitPoliciesHoldNobodyUp: a controller that is away must not
// keep others from being attached and detached.
func TestPodsThatAwaitPoliciesHoldNobodyUp(t *testing.T) {
	w := newWorld("/ns/c1")
	pods := 2 * defaultConcurrency
	for i := range pods {
		w.namespaces[fmt.Sprintf("/ns/w%d", i)] = true
	}
	n := newNode(t, w)
	answers := make(chan *types.Error, pods)
	var release []chan<- error
	for i := range pods {
		c := fmt.Sprintf("w%d", i)
		release = append(release, n.policies.hold("default/web-"+c))
		go func() {
			_, err := n.do(t, call(cniapi.Add, c))
			answers <- err
		}()
	}
	n.must(t, call(cniapi.Add, "c1"))
	n.must(t, call(cniapi.Del, "c1"))
	diff(t, "node", []string(nil), n.dump(t))

	release[0] <- errors.New("no controller")
	wantCode(t, <-answers, types.ErrTryAgainLater, "no controller")
	diff(t, "node after a Pod was refused", []string(nil), n.dump(t))
	for _, r := range release[1:] {
		r <- nil
	}
	for range release[1:] {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}
