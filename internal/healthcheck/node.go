// SPDX-License-Identifier: Apache-2.0

package healthcheck

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// NodePort is where kube-proxy, and so also a Server, answers for the node.
const NodePort = 10256

// SetNode opens or closes NodePort. An error says why that cannot be done; the
// next call tries again. After Run has ended SetNode opens nothing.
func (s *Server) SetNode(ctx context.Context, open bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || open == (s.node != nil):
		return nil
	case !open:
		old := s.node
		s.node = nil
		if err := old.close(); err != nil {
			return fmt.Errorf("closing port %d of the node's health: %w", NodePort, err)
		}
		return nil
	}
	opened, err := s.bind(NodePort)
	if err != nil {
		return fmt.Errorf("health of the node: %w", err)
	}
	s.node = opened
	s.serve(ctx, opened, NodeHandler(s.p.Node), func() {
		if s.node == opened {
			s.node = nil
		}
	}, "port", NodePort)
	return nil
}

// NodeParams are what NodeHandler needs. All are called on any goroutine.
type NodeParams struct {
	// Healthy says whether Services are served on this node.
	Healthy func() bool
	// Deleted says that the node is about to go: it is being deleted, or about
	// to be by the cluster autoscaler (KEP-3458).
	Deleted func() bool
	// Updated is when the node last was healthy; the zero Time if never. It is
	// asked only while the node is not.
	Updated func() time.Time
	// Now is the time; nil: time.Now.
	Now func() time.Time
}

// nodeAnswer is the body for the node, in the words of kube-proxy.
type nodeAnswer struct {
	LastUpdated  time.Time `json:"lastUpdated"`
	CurrentTime  time.Time `json:"currentTime"`
	NodeEligible *bool     `json:"nodeEligible,omitempty"`
}

// NodeHandler answers load balancers of Services with externalTrafficPolicy
// Cluster: at /healthz 200 while the node serves Services and is not about to
// go, else 503, so that connections in progress can end elsewhere than in a
// reset; at /livez 200 while it serves Services. kube-proxy has it at port 10256
// of every node.
func NodeHandler(p NodeParams) http.Handler {
	if p.Now == nil {
		p.Now = time.Now
	}
	answer := func(w http.ResponseWriter, eligible *bool) {
		a := nodeAnswer{CurrentTime: p.Now(), NodeEligible: eligible}
		status, healthy := http.StatusOK, p.Healthy()
		if a.LastUpdated = a.CurrentTime; !healthy {
			a.LastUpdated = p.Updated()
		}
		if !healthy || eligible != nil && !*eligible {
			status = http.StatusServiceUnavailable
		}
		write(w, status, a)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		eligible := !p.Deleted()
		answer(w, &eligible)
	})
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	return mux
}
