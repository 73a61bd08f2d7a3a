// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"net"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/healthcheck"
	"github.com/waymark-net/waymark/internal/kube"
)

// hostPatience is how long the node's part of Services may fail before load
// balancers are to go elsewhere: three runs of a loop that runs every 30 seconds.
const hostPatience = 90 * time.Second

// serviceHealthParams are what newServiceHealth needs.
type serviceHealthParams struct {
	// ready says why not all Services are in the switch; it may be called from any
	// goroutine, as may snapshot, which is kube.Watcher.Snapshot.
	ready    func() error
	snapshot func() *kube.Snapshot
	nodeName string
	// listen is healthcheck.Params.Listen.
	listen func(port uint16) (net.Listener, error)
}

// serviceHealth answers load balancers. The loop of serviceHost calls ran.
type serviceHealth struct {
	params serviceHealthParams
	server *healthcheck.Server

	mu sync.Mutex
	// updated is when the node last did all that Services ask of it.
	updated time.Time

	// said is what was last said of the node's port. It belongs to the loop.
	said string
}

func newServiceHealth(p serviceHealthParams) *serviceHealth {
	h := &serviceHealth{params: p}
	h.server = healthcheck.New(healthcheck.Params{
		Healthy: h.healthy, Listen: p.listen,
		Node: healthcheck.NodeParams{Healthy: h.healthy, Deleted: h.leaving, Updated: h.lastUpdated},
	})
	return h
}

// ran is told what came of a run of serviceHost, and whether this node's health
// is the agent's to tell. A port that kube-proxy still has is tried again with
// the next run, and is no reason to give the node no Pods.
func (h *serviceHealth) ran(ctx context.Context, err error, answer bool) {
	if err == nil {
		h.mu.Lock()
		h.updated = time.Now()
		h.mu.Unlock()
	}
	text := ""
	if err := h.server.SetNode(ctx, answer); err != nil {
		text = err.Error()
	}
	if text == h.said {
		return
	}
	h.said = text
	log := klog.FromContext(ctx)
	if text == "" {
		log.Info("Load balancers that ask for the health of the node get answers as wanted", "port", healthcheck.NodePort, "answered", answer)
		return
	}
	log.Info("Load balancers that ask for the health of the node get no answer of ours, will try again", "reason", text,
		"advice", "if kube-proxy runs here, remove it or set services.mode to ClusterIPOnly")
}

// healthy reports whether Services are served here.
func (h *serviceHealth) healthy() bool {
	return h.params.ready() == nil && time.Since(h.lastUpdated()) < hostPatience
}

func (h *serviceHealth) lastUpdated() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.updated
}

// leaving reports whether the node is about to go, or gone from the API.
func (h *serviceHealth) leaving() bool {
	s := h.params.snapshot()
	if s == nil {
		return false // not known yet; nothing is served either
	}
	n := s.Node(h.params.nodeName)
	return n == nil || n.Leaving
}
