// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/drain"
	"github.com/waymark-net/waymark/internal/kube"
)

// drainer follows whether the node is about to leave. It belongs to the goroutine
// of the node loop. Its state outlives the agent, and a reboot: a node that was
// drained does not announce before it is let.
type drainer struct {
	file string
	// mark asks for a run of the node loop, say tells people.
	mark func()
	say  func(reason, message string)

	state  drain.State
	loaded bool
	phase  drain.Phase // the last one
	timer  *time.Timer
}

// look returns the phase for why the node leaves, and has the loop run again when
// that will be another.
func (d *drainer) look(ctx context.Context, why string, conf config.Drain) drain.Phase {
	if !d.loaded {
		d.loaded = true
		if err := readJSON(d.file, &d.state); err != nil {
			klog.FromContext(ctx).Error(err, "How far the node was drained is not known any more")
			d.state = drain.State{}
		}
		d.phase, _ = d.state.Phase(time.Now(), conf.Time)
	}
	d.state = d.state.Next(why)
	phase, left := d.state.Phase(time.Now(), conf.Time)
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if left > 0 {
		d.timer = time.AfterFunc(left, d.mark)
	}
	if phase != d.phase {
		d.phase = phase
		d.announce(ctx, conf)
	}
	return phase
}

// announce tells people of a phase that is new.
func (d *drainer) announce(ctx context.Context, conf config.Drain) {
	var reason, message string
	switch d.phase {
	case drain.None:
		reason, message = "ServicesAnnounced", "the node stays: it announces addresses of Services as ever"
	case drain.Leaving:
		reason = "ServicesLeaving"
		message = fmt.Sprintf("%s: routers are asked to use others for addresses of Services, which it withdraws after %s", d.state.Reason, conf.Time)
	case drain.Withdrawn:
		reason, message = "ServicesWithdrawn", d.state.Reason+": it announces no addresses of Services"
	}
	klog.FromContext(ctx).Info("Announcing addresses of Services changes", "phase", d.phase, "why", message)
	d.say(reason, message)
}

// told says that the speaker does as the phase that look returned last says.
func (d *drainer) told() error {
	before := d.state
	d.state = d.state.Tell(time.Now())
	data, err := json.Marshal(d.state)
	if err != nil {
		return err
	}
	if before != d.state {
		d.mark() // which sets the timer
	}
	return writeFile(d.file, data)
}

func (a *Agent) newDrainer(mark func()) *drainer {
	return &drainer{
		file: filepath.Join(a.p.StateDir, "drain.json"), mark: mark, phase: drain.None,
		say: func(reason, message string) {
			if s := a.watcher.Snapshot(); s != nil && s.Node(a.p.NodeName) != nil {
				a.status.recorder.OnNode(s.Node(a.p.NodeName), kube.Normal, reason, message)
			}
		},
	}
}
