// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/ovs/pipeline"
)

// resumeFor is how long connections from before a restart of the switch have to
// be taken up again. TCP tries again within that time several times.
const resumeFor = time.Minute

// resume declares pipeline.Resume for a while after the switch was restarted.
// Its methods may be called from any goroutine.
type resume struct {
	flows flowTable

	mu sync.Mutex
	// params are those of the gateway, once they are known.
	params *pipeline.GatewayParams
	timer  *time.Timer
}

// describe says how the gateway is.
func (r *resume) describe(p pipeline.GatewayParams) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.params = &p
}

// begin is called when the switch has lost everything. A node whose gateway is
// not known yet has just begun, and has no connections to go on with.
func (r *resume) begin() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.params == nil {
		return nil
	}
	if r.timer != nil {
		r.timer.Stop()
	}
	r.timer = time.AfterFunc(resumeFor, func() { r.flows.Delete(pipeline.OwnerResume) })
	return r.flows.Update(pipeline.OwnerResume, pipeline.Resume(*r.params), nil)
}

// onFreshSwitch is openflow.Params.Fresh.
func (a *Agent) onFreshSwitch() {
	if err := a.resume.begin(); err != nil {
		klog.Background().Error(err, "Connections from before the restart of the switch may not go on")
	}
}
