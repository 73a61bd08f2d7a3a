// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/drift"
	"github.com/waymark-net/waymark/internal/enforce"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/ovs/unixctl"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/hostfw"
	"github.com/waymark-net/waymark/routing/kernel"
)

// step is one part of carrying out a plan. Its name is what health and logs
// call it.
type step struct {
	name string
	run  func(ctx context.Context, w World, p *Plan) error
}

// steps in the order in which later ones build on earlier ones.
func (a *Agent) steps() []step {
	return []step{
		{"switch", a.applySwitch},
		{"gateway", a.applyGateway},
		{"tunnel routes", a.applyTunnelRoutes},
		{"flows", a.applyFlows},
		{"firewall", a.applyFirewall},
		{"bgp", a.applyBGP},
		{"routes", a.applyRoutes},
		{"tunnels", a.applyTunnels},
		{"probes", a.applyProbes},
	}
}

// apply carries out a plan and goes on past failures.
func (a *Agent) apply(ctx context.Context, w World, p *Plan) error {
	var errs []error
	for _, s := range a.steps() {
		err := s.run(ctx, w, p)
		if err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			errs = append(errs, err)
		}
		a.health.set(s.name, err)
	}
	return errors.Join(errs...)
}

// applySwitch makes bridges and ports, and moves the node's addresses to the
// bridge where the userspace datapath needs the network interface.
func (a *Agent) applySwitch(ctx context.Context, w World, p *Plan) error {
	if w.Config.Datapath != config.DatapathNetdev {
		if err := a.returnUplink(ctx, w.Uplink.NIC); err != nil {
			return err
		}
	}
	status, err := a.vsdb.Apply(ctx, p.Layout.Switch())
	if err != nil {
		return err
	}
	a.ports = status.Ports
	if err := a.saveLayout(p.Layout); err != nil {
		return err
	}
	if w.Config.Datapath == config.DatapathNetdev {
		err = errors.Join(a.moveUplink(ctx, w.Uplink.NIC), a.acceptFragments(ctx))
	}
	return err
}

// leastFragment is the least that Open vSwitch takes for the size of an IPv4
// fragment that is not the last, in bytes.
const leastFragment = "400"

// acceptFragments has the connection tracker of the userspace datapath put
// together what was made for narrow paths. As it comes it drops IPv4 fragments
// below 1200 bytes.
func (a *Agent) acceptFragments(ctx context.Context) error {
	return a.vswitchd(ctx, "dpctl/ipf-set-min-frag", "netdev@ovs-netdev", "v4", leastFragment)
}

// vswitchd has the daemon of the switch carry out a command of ovs-appctl(8).
func (a *Agent) vswitchd(ctx context.Context, command string, args ...string) error {
	_, err := unixctl.Call(ctx, filepath.Join(a.p.OVSDir, "ovs-vswitchd.ctl"), command, args...)
	return err
}

func (a *Agent) mover(nic string) *kernel.UplinkMover {
	return kernel.NewUplinkMover(kernel.UplinkMoverParams{
		NIC:       nic,
		Bridge:    vsdb.ExternalBridge,
		StateFile: a.uplinkFile(),
	})
}

func (a *Agent) uplinkFile() string { return filepath.Join(a.p.StateDir, "uplink.json") }
func (a *Agent) layoutFile() string { return filepath.Join(a.p.StateDir, "layout.json") }

// restoreUplink puts the node's addresses back on the bridge when the switch
// has made that bridge anew. It must work before the API server can be asked:
// without it there is no network to ask through. Layout and addresses therefore
// come from files.
func (a *Agent) restoreUplink(ctx context.Context) error {
	nic, err := kernel.SavedNIC(a.uplinkFile())
	if err != nil || nic == "" {
		return err
	}
	data, err := os.ReadFile(a.layoutFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var layout vsdb.Layout
	if err := json.Unmarshal(data, &layout); err != nil {
		return fmt.Errorf("reading %s: %w", a.layoutFile(), err)
	}
	if layout.Uplink == nil || layout.Uplink.Name != nic {
		return nil
	}
	// The node may have come back with another network interface of that name.
	if layout.Uplink.MAC, err = macOf(nic); err != nil {
		return err
	}
	if _, err := a.vsdb.Apply(ctx, layout.Switch()); err != nil {
		return err
	}
	return a.moveUplink(ctx, nic)
}

func (a *Agent) saveLayout(l vsdb.Layout) error {
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(a.layoutFile(), data)
}

func (a *Agent) applyGateway(ctx context.Context, w World, p *Plan) error {
	err := a.configureGateway(ctx, p)
	var families []routing.Family
	for _, g := range p.Gateways {
		families = append(families, routing.FamilyOf(g.Addr()))
	}
	interfaces := []string{w.Uplink.Name}
	for _, l := range w.Links {
		if l.Name != w.Uplink.Name {
			interfaces = append(interfaces, l.Name)
		}
	}
	sysctls := kernel.SysctlParams{Gateway: vsdb.GatewayPort, Interfaces: interfaces, Families: families, PerFlow: w.probes()}
	if w.Config.Datapath == config.DatapathNetdev {
		sysctls.Switched = a.switched()
	}
	return errors.Join(err, a.ensureSysctls(ctx, sysctls))
}

// applyFlows declares all flows but those of Pods and of Services, which have
// their own loops. What nobody declares is deleted only after those did.
func (a *Agent) applyFlows(ctx context.Context, w World, p *Plan) error {
	gateway := a.ports[vsdb.GatewayPort].OFPort
	if gateway == 0 {
		return fmt.Errorf("port %s has no OpenFlow port: %s", vsdb.GatewayPort, a.ports[vsdb.GatewayPort].Error)
	}
	params := pipeline.GatewayParams{
		Port: gateway, NodeAddrs: w.Local.Addresses, Services: w.Config.Services.Mode == config.ServicesAll,
	}
	for _, g := range p.Gateways {
		params.Addrs = append(params.Addrs, g.Addr())
	}
	for _, c := range p.Local.PodCIDRs {
		params.ServiceAddrs = append(params.ServiceAddrs, routing.ServiceAddressOf(c))
	}
	var errs []error
	for _, t := range p.Layout.Tunnels {
		port := a.ports[t.PortName()]
		if port.OFPort == 0 {
			errs = append(errs, fmt.Errorf("port %s has no OpenFlow port: %s", t.PortName(), port.Error))
			continue
		}
		params.TunnelPorts = append(params.TunnelPorts, port.OFPort)
	}
	a.resume.describe(params)
	live := map[string]bool{pipeline.OwnerBase: true, pipeline.OwnerGateway: true, pipeline.OwnerResume: true}
	errs = append(errs,
		a.flows.Update(pipeline.OwnerBase, pipeline.Base(), nil),
		a.flows.Update(pipeline.OwnerGateway, pipeline.Gateway(params), nil),
		a.policies.enforcer.Configure(w.Config.NetworkPolicy))
	for _, n := range p.Nodes {
		owner := pipeline.OwnerNode(n.Name)
		live[owner] = true
	}
	a.flows.Prune(func(owner string) bool {
		return live[owner] || isPodOwner(owner) || isServiceOwner(owner) || enforce.IsOwner(owner)
	})
	for _, n := range p.Nodes {
		// What the kernel still leads into a tunnel must not come back to it, nor
		// what Pods send before the kernel has a route.
		params := a.nodeParams(n)
		if before, ok := a.tunnels[n.Name]; ok && len(params.PodCIDRs) < len(before.PodCIDRs) {
			before.Sources = params.Sources
			params = before
		}
		errs = append(errs, a.flows.Update(pipeline.OwnerNode(n.Name), pipeline.Node(params), nil))
	}
	a.health.set("services", a.services.ready())
	if a.podsDeclared.Load() {
		if a.policies.enforcer.Known() && a.services.ready() == nil {
			a.flows.Complete()
		}
		// What the switch refuses of a Service is nobody else's concern.
		errs = append(errs, a.flows.SyncConnected(ctx, switchPatience, slices.DeleteFunc(a.flows.Owners(), isServiceOwner)...))
	}
	return errors.Join(errs...)
}

// nodeParams are those of a remote node with the number of its tunnel's port.
func (a *Agent) nodeParams(n RemoteNode) pipeline.NodeParams {
	if len(n.PodCIDRs) > 0 {
		n.TunnelPort = a.ports[n.Tunnel.PortName()].OFPort
	}
	return n.NodeParams
}

// applyTunnels ends tunnels in whose place there are routes now.
func (a *Agent) applyTunnels(ctx context.Context, _ World, p *Plan) error {
	if a.health.errOf("routes") != nil {
		return nil // which says so
	}
	tunnels := make(map[string]pipeline.NodeParams, len(p.Nodes))
	var errs []error
	var changed []string
	for _, n := range p.Nodes {
		params, owner := a.nodeParams(n), pipeline.OwnerNode(n.Name)
		tunnels[n.Name] = params
		if len(params.PodCIDRs) < len(a.tunnels[n.Name].PodCIDRs) {
			errs = append(errs, a.flows.Update(owner, pipeline.Node(params), nil))
			changed = append(changed, owner)
		}
	}
	a.tunnels = tunnels
	if len(changed) > 0 && a.podsDeclared.Load() {
		errs = append(errs, a.flows.SyncConnected(ctx, switchPatience, changed...))
	}
	return errors.Join(errs...)
}

// wantedRoutes are what Apply makes of routes.
type wantedRoutes struct {
	Routes []routing.Route
	Keep   bool // those that are not wanted
}

func (a *Agent) applyRoutes(ctx context.Context, w World, p *Plan) error {
	var neighbours []kernel.Neighbour
	for _, n := range p.Kernel.Neighbours {
		neighbours = append(neighbours, kernel.Neighbour{Addr: n.Addr, MAC: n.MAC})
	}
	port := kernel.Neighbours{Interface: vsdb.GatewayPort}
	run := a.drift.Begin(drift.Neighbours, gateway)
	// A route must not lead to an address that is not there yet, nor to one that
	// is not there any more.
	set, setErr := port.Apply(ctx, neighbours, kernel.NeighbourOptions{KeepUnknown: true})
	routesErr := a.changeRoutes(ctx, w, p)
	removed, removeErr := port.Apply(ctx, neighbours, kernel.NeighbourOptions{})
	err := errors.Join(setErr, removeErr)
	run.End(neighbours, len(set.Set)+len(removed.Removed), err)
	return errors.Join(err, routesErr)
}

func (a *Agent) changeRoutes(ctx context.Context, w World, p *Plan) error {
	tunnels := w.Config.Datapath == config.DatapathNetdev && len(p.Layout.Tunnels) > 0
	options := kernel.RouteOptions{KeepUnknown: p.KeepRoutes}
	if tunnels {
		options.Before = a.settleDatapath
	}
	run := a.drift.Begin(drift.Routes, forPods)
	result, err := kernel.Routes{}.Apply(ctx, p.Kernel.Routes, options)
	run.End(wantedRoutes{p.Kernel.Routes, p.KeepRoutes}, len(result.Added)+len(result.Replaced)+len(result.Removed), err)
	a.metrics.routes(result)
	if tunnels && result.Changed() {
		err = errors.Join(err, a.settleRoutes(ctx))
	}
	return err
}

// wantedRules are rules of one kind and where they are to be.
type wantedRules struct {
	Backend hostfw.Backend
	Rules   any
}

func (a *Agent) applyFirewall(ctx context.Context, w World, p *Plan) error {
	a.uplinkMu.Lock()
	defer a.uplinkMu.Unlock()
	backend, rules := hostfw.Backend(w.Config.HostFirewall), p.Firewall
	if a.switched() == "" {
		rules.SwitchedNICs = nil
	}
	run := a.drift.Begin(drift.Firewall, forPods)
	res, err := a.hostFirewall(backend).Apply(ctx, rules)
	run.End(wantedRules{backend, rules}, b2i(res.Changed), err)
	return err
}

// hostFirewall is that of a backend. Its caller holds uplinkMu.
func (a *Agent) hostFirewall(backend hostfw.Backend) *hostfw.Firewall {
	if a.firewall == nil || a.firewallBackend != backend {
		a.firewall, a.firewallBackend = hostfw.New(hostfw.Params{Backend: backend}), backend
	}
	return a.firewall
}

func (a *Agent) applyBGP(ctx context.Context, _ World, p *Plan) error {
	// What is wrong with one peer must not hold up the others: they were told.
	err := a.speaker.Set(ctx, p.BGP)
	return errors.Join(err, a.served.told(), a.drain.told())
}

// writeFile replaces a file as a whole; nothing is written when it has the
// content already.
func writeFile(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := path + ".tmp"
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
