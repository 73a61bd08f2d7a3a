// SPDX-License-Identifier: Apache-2.0

package healthcheck

import (
	"net/http"
	"time"
)

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
