// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/routing"
)

// TestServiceHealth goes through the life of a node.
func TestServiceHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var snapshot *kube.Snapshot
		ready := errServicesUnknown
		h := newServiceHealth(serviceHealthParams{
			ready: func() error { return ready }, snapshot: func() *kube.Snapshot { return snapshot }, nodeName: "n1",
		})
		failed := errors.New("nft: exit status 1")
		nodes := func(n ...kube.Node) { snapshot = &kube.Snapshot{Nodes: n} }
		n1, n2 := kube.Node{Node: routing.Node{Name: "n1"}}, kube.Node{Node: routing.Node{Name: "n2"}}
		for _, step := range []struct {
			name             string
			do               func()
			healthy, leaving bool
		}{
			{"start", func() {}, false, false},
			{"only the node", func() { h.ran(t.Context(), nil, false) }, false, false},
			{"Services, too", func() { ready = nil }, true, false},
			{"a failure", func() { time.Sleep(30 * time.Second); h.ran(t.Context(), failed, false) }, true, false},
			{"for long", func() { time.Sleep(time.Minute); h.ran(t.Context(), failed, false) }, false, false},
			{"again well", func() { h.ran(t.Context(), nil, false); nodes(n1, n2) }, true, false},
			{"another node is to go", func() { n2.Leaving = true; nodes(n1, n2) }, true, false},
			{"it is to go", func() { n1.Leaving = true; nodes(n1, n2) }, true, true},
			{"it is gone", func() { nodes(n2) }, true, true},
			{"the loop hangs", func() { time.Sleep(hostPatience) }, false, true},
		} {
			step.do()
			if healthy, leaving := h.healthy(), h.leaving(); healthy != step.healthy || leaving != step.leaving {
				t.Errorf("%s: healthy %t, leaving %t; want %t, %t", step.name, healthy, leaving, step.healthy, step.leaving)
			}
		}
	})
}

// TestServiceHealthPort has another program on the node's port for a while.
func TestServiceHealthPort(t *testing.T) {
	taken, tries := true, 0
	h := newServiceHealth(serviceHealthParams{
		ready: func() error { return nil }, snapshot: func() *kube.Snapshot { return nil },
		listen: func(uint16) (net.Listener, error) {
			if tries++; taken {
				return nil, errors.New("address already in use")
			}
			return net.Listen("tcp", "127.0.0.1:0")
		},
	})
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.BufferLogs(true)))
	ctx, cancel := context.WithCancel(klog.NewContext(t.Context(), logger))
	ended := make(chan error, 1)
	go func() { ended <- h.server.Run(ctx) }()
	for i, step := range []struct {
		answer, taken bool
		tries, lines  int
	}{
		{false, true, 0, 0}, {true, true, 1, 1}, {true, true, 2, 1}, {true, false, 3, 2}, {true, false, 3, 2}, {false, false, 3, 2},
	} {
		taken = step.taken
		h.ran(ctx, nil, step.answer)
		log := logger.GetSink().(ktesting.Underlier).GetBuffer().String()
		if lines := strings.Count(log, "Load balancers"); tries != step.tries || lines != step.lines || !h.healthy() {
			t.Errorf("step %d: tried %d times, said %d times, healthy %t; want %d, %d, true\n%s", i, tries, lines, h.healthy(), step.tries, step.lines, log)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
