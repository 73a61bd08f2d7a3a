// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"

	"github.com/waymark-net/waymark/internal/cniinstall"
	"github.com/waymark-net/waymark/internal/cniserver"
	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/drift"
	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/routing/hostfw"
)

// announceSettings tells the CNI server what new Pods get, and makes it bring
// the others to it when that has changed.
func (a *Agent) announceSettings(s sight, p *Plan) {
	conf := s.world.Config
	value := cniserver.Settings{
		PodCIDRs:   p.Local.PodCIDRs,
		MTU:        p.MTU,
		SendMTU:    p.SendMTU,
		HostMTU:    p.SwitchMTU,
		Datapath:   podlink.Datapath(conf.Datapath),
		GatewayMAC: pipeline.GatewayMAC(),
	}
	a.serviceHost.configure(serviceHostSettings{
		backend: hostfw.Backend(conf.HostFirewall), nodePortAddrs: conf.Services.NodePortAddresses,
		addrs: nodeAddresses(s.world, p), mtu: p.SendMTU, all: conf.Services.Mode == config.ServicesAll,
	})
	a.services.configure(serviceSettings{mode: conf.Services.Mode, node: serviceNode(s.node.Zone(), s.world, p)})
	a.settings.Lock()
	changed := !a.settings.known || !reflect.DeepEqual(a.settings.value, value)
	a.settings.value, a.settings.known = value, true
	if changed {
		a.settings.version++
	}
	a.settings.Unlock()
	if changed {
		a.podLoop.Mark()
	}
}

// podsFollow tells whether all Pods have been brought to what announceSettings said
// last. One that could not be, as it has changed its own interface, counts.
func (a *Agent) podsFollow() bool {
	a.settings.Lock()
	defer a.settings.Unlock()
	return a.settings.known && a.podsAt.Load() == a.settings.version
}

// cniSettings implements cniserver.Params.Settings.
func (a *Agent) cniSettings() (cniserver.Settings, error) {
	a.settings.Lock()
	defer a.settings.Unlock()
	if !a.settings.known {
		return cniserver.Settings{}, fmt.Errorf("the agent is starting: %w", a.health.err())
	}
	if len(a.settings.value.PodCIDRs) == 0 {
		return a.settings.value, fmt.Errorf("node %s has no usable Pod CIDR", a.p.NodeName)
	}
	return a.settings.value, a.health.errOf(servingParts()...)
}

// servingParts are the parts of the agent without which no Pod can be added.
func servingParts() []string { return []string{"switch", "gateway", "flows", "pods"} }

// reconcilePods declares the flows of all Pods, and repairs what was taken away
// under living Pods and collects what dead ones left.
func (a *Agent) reconcilePods(ctx context.Context) error {
	a.settings.Lock()
	known, version := a.settings.known, a.settings.version
	a.settings.Unlock()
	if !known {
		return nil
	}
	err := a.pods.restore(ctx)
	if errors.Is(err, errBusy) {
		a.podLoop.Mark()
		return nil
	}
	declared := err == nil && !a.podsDeclared.Swap(true)
	// The node loop may have reported what was before, and have nothing to do now.
	if news := a.health.set("pods", err); news || declared {
		a.loop.Mark()
	}
	if err == nil {
		// A Pod can break its own interface; that is no reason to refuse others.
		err = a.repairPods(ctx)
		if a.podsAt.Swap(version) != version {
			a.loop.Mark()
		}
	}
	a.setPodsDegraded(err)
	if a.health.err() != nil {
		return err
	}
	_, configErr := cniinstall.WriteConfig(a.p.CNIConfig, filepath.Join(a.p.RunDir, "cni.sock"))
	return errors.Join(err, configErr)
}

// repairPods repairs Pods' links and ports. That one cannot be repaired does not
// make the others' repair less of one.
func (a *Agent) repairPods(ctx context.Context) error {
	run := a.drift.Begin(drift.Pods, forPods)
	repaired, err := a.cni.Reconcile(ctx)
	a.settings.Lock()
	version := a.settings.version // if news came meanwhile, those are the reason
	a.settings.Unlock()
	run.End(version, repaired, nil)
	return err
}

// setPodsDegraded keeps what came of the last repair of Pods for the report,
// and has it made when there is news.
func (a *Agent) setPodsDegraded(err error) {
	old := a.podsDegraded.Swap(&err)
	if news := old == nil && err != nil || old != nil && fmt.Sprint(*old) != fmt.Sprint(err); news {
		a.loop.Mark()
	}
}
