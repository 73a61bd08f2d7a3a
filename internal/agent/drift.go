// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"slices"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/drift"
	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing/hostfw"
	"github.com/waymark-net/waymark/routing/kernel"
)

// watchers tell what somebody else may have changed. They only mark loops and the
// tracker: what is wrong, if anything is, the loops find out.
type watchers struct {
	kernel  *kernel.Watcher
	sysctls *kernel.SysctlWatcher
	links   *podlink.Watcher
	tables  *hostfw.Watcher
}

// What the loops keep of a kind.
const (
	forPods     = "Pods"
	forServices = "Services"
	uplink      = "uplink"
	gateway     = "gateway"
	ownNode     = "node"
)

func (a *Agent) newWatchers() watchers {
	return watchers{
		kernel: kernel.NewWatcher(kernel.WatcherParams{
			Gateway: vsdb.GatewayPort, Ignore: podlink.IsHostInterface, Notify: a.onKernel, Gone: a.onLinkGone,
		}),
		sysctls: kernel.NewSysctlWatcher(kernel.SysctlWatcherParams{Notify: a.onSysctls}),
		links:   podlink.NewWatcher(podlink.WatcherParams{Notify: a.onPodLink, Lost: a.onPodLinksLost}),
		tables:  hostfw.NewWatcher(hostfw.WatcherParams{Notify: a.onTable}),
	}
}

// onKernel marks what a change in the kernel concerns.
func (a *Agent) onKernel(c kernel.Change) {
	for _, n := range []struct {
		change kernel.Change
		kind   drift.Kind
		name   string
	}{
		{kernel.ChangedRoutes, drift.Routes, forPods},
		{kernel.ChangedServiceRoutes, drift.Routes, forServices},
		{kernel.ChangedLinks, drift.Links, uplink},
		{kernel.ChangedLinks, drift.Links, gateway},
		{kernel.ChangedAddresses, drift.Addresses, gateway},
		{kernel.ChangedNeighbours, drift.Neighbours, gateway},
	} {
		if c&n.change != 0 {
			a.drift.Notice(n.kind, n.name)
		}
	}
	if c&^kernel.ChangedServiceRoutes != 0 {
		a.loop.Mark()
	}
	if c&(kernel.ChangedServiceRoutes|kernel.ChangedAddresses|kernel.ChangedLinks) != 0 {
		a.serviceHost.loop.Mark()
	}
}

// onSysctls marks the loops that write sysctls: one that is set for all interfaces
// changes those of Pods as well.
func (a *Agent) onSysctls(paths []string) {
	klog.Background().Info("Something else changed sysctls, repairing", "sysctls", paths)
	a.drift.Notice(drift.Sysctls)
	a.loop.Mark()
	a.podLoop.Mark()
}

// onLinkGone looks after Pods when one of them has lost its link. The CNI
// server forgets an attachment before it removes the link.
func (a *Agent) onLinkGone(name string) {
	if podlink.IsHostInterface(name) && a.cni.Attached(name) {
		a.onPodLinksLost()
	}
}

// onPodLink looks after Pods when an end of a link is not as it should be. Links
// that are being made or removed are nobody's drift.
func (a *Agent) onPodLink(e podlink.Event) {
	a.settings.Lock()
	known, mtu := a.settings.known, a.settings.value.HostMTU
	if e.Pod {
		mtu = a.settings.value.MTU
	}
	a.settings.Unlock()
	if !known || e.MTU == mtu && (e.Pod || e.Up) || !e.Pod && !a.cni.Attached(e.Name) {
		return
	}
	a.onPodLinksLost()
}

func (a *Agent) onPodLinksLost() {
	a.drift.Notice(drift.Pods)
	a.podLoop.Mark()
}

// onTable marks the loop whose rules may have been changed. What that loop wrote
// itself is told as well, and costs it a look.
func (a *Agent) onTable(t hostfw.Table) {
	if t == hostfw.TableServices {
		a.drift.Notice(drift.Firewall, forServices)
		a.serviceHost.loop.Mark()
	} else {
		a.drift.Notice(drift.Firewall, forPods)
		a.loop.Mark()
	}
}

// onFlowRepair is openflow.Params.Repaired.
func (a *Agent) onFlowRepair(r openflow.Repair) {
	for _, part := range []drift.Repair{
		{Kind: drift.Flows, Number: r.Flows}, {Kind: drift.Groups, Number: r.Groups}, {Kind: drift.Meters, Number: r.Meters},
	} {
		if part.Number > 0 {
			part.Wrong = r.Wrong
			a.metrics.repaired(part)
		}
	}
}

// uplinkWanted is what the bridge that stands in for a network interface has.
type uplinkWanted struct {
	nic, mac string
	mtu      int
}

// moveUplink moves the node's addresses to the bridge, and keeps the bridge so.
func (a *Agent) moveUplink(ctx context.Context, nic string) error {
	a.uplinkMu.Lock()
	defer a.uplinkMu.Unlock()
	links, sysctls := a.drift.Begin(drift.Links, uplink), a.drift.Begin(drift.Sysctls, uplink)
	res, err := a.mover(nic).Move(ctx)
	links.End(uplinkWanted{nic, res.MAC, res.MTU}, res.Link, err)
	sysctls.End(nic, len(res.Sysctls), err)
	return err
}

// returnUplink makes the NIC the node's uplink again.
func (a *Agent) returnUplink(ctx context.Context, nic string) error {
	a.uplinkMu.Lock()
	defer a.uplinkMu.Unlock()
	_, err := a.mover(nic).Return(ctx)
	return err
}

// configureGateway gives the gateway's interface MTU and addresses.
func (a *Agent) configureGateway(ctx context.Context, p *Plan) error {
	addrs := slices.Concat(p.Gateways, probeAddresses(p.Probes))
	links, addresses := a.drift.Begin(drift.Links, gateway), a.drift.Begin(drift.Addresses, gateway)
	res, err := kernel.ConfigureLink(ctx, kernel.LinkSpec{Name: vsdb.GatewayPort, MTU: p.SwitchMTU, Addresses: addrs})
	links.End(p.SwitchMTU, res.Changes, err)
	addresses.End(addrs, res.Addresses, err)
	return err
}

// ensureSysctls makes the node route, and has that watched.
func (a *Agent) ensureSysctls(ctx context.Context, p kernel.SysctlParams) error {
	run := a.drift.Begin(drift.Sysctls, ownNode)
	changed, err := kernel.EnsureSysctls(ctx, p)
	run.End(p, len(changed), err)
	if err == nil {
		a.watchers.sysctls.Watch(p)
	}
	return err
}
