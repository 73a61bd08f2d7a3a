// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/rollout"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/routing/kernel"
)

// errNoSnapshot says that the API server has not been read yet.
var errNoSnapshot = errors.New("waiting for the API server")

// errNodeDeleted says that the Node object was there and is no more.
var errNodeDeleted = errors.New("its object was deleted")

// sight is a World with what was seen beside it.
type sight struct {
	world World
	node  *kube.Node
	// document is what is wrong with the configuration document, nil if nothing is.
	document error
	// peers are the BGPPeers that cannot be used, notes what else was found.
	peers []kube.PeerProblem
	notes []string
	// rollingOut says that a rollout is to bring the configuration into force.
	rollingOut bool
}

// look gathers the world. What it returns beside an error is as much as it could see.
func (a *Agent) look(ctx context.Context) (sight, error) {
	var s sight
	snapshot := a.watcher.Snapshot()
	if snapshot == nil {
		return s, errNoSnapshot
	}
	s.node = snapshot.Node(a.p.NodeName)
	if s.node == nil && a.registered {
		return s, fmt.Errorf("node %s: %w", a.p.NodeName, errNodeDeleted)
	}
	if s.node == nil {
		return s, fmt.Errorf("node %s is not registered yet", a.p.NodeName)
	}
	a.registered = true
	s.notes = append(s.notes, s.node.Problems...)
	conf, err := a.configuration(ctx, snapshot)
	s.document = err
	if conf == nil {
		return s, err
	}
	if r := snapshot.Rollout(); r != nil {
		a.rollout = r
	}
	s.world.Config, s.world.Rollout = conf, a.rollout
	if a.rollout != nil {
		// How traffic travels changes by rollouts alone.
		s.world.Config = conf.With(a.rollout.To)
		s.rollingOut = a.rollout.Phase != rollout.Complete || a.rollout.To != conf.Traffic()
	}
	s.world.Local = s.node.Node
	for _, n := range snapshot.Nodes {
		if n.Name != a.p.NodeName {
			s.world.Remotes = append(s.world.Remotes, n.Node)
		}
	}
	addresses := a.served.get(ctx)
	s.world.ServiceAddresses = addresses.Addrs
	leaving := "" // a node that announces no Services has nothing to do before
	asn, err := conf.BGP.NodeASN(s.node.Labels)
	if err != nil {
		s.notes = append(s.notes, err.Error())
	} else {
		s.world.ASN = asn
		s.world.Peers, s.peers = snapshot.Peers(s.node, conf.BGP)
		s.world.PeersIncomplete = slices.ContainsFunc(s.peers, func(p kube.PeerProblem) bool { return p.Reason == kube.ReasonSecretMissing })
		ads := snapshot.Advertisements(s.node, s.world.Peers, addresses.Announced)
		s.advertisements(ads)
		s.world.Aggregates = snapshot.Aggregates()
		if ads.SelectServices {
			leaving = s.node.WhyLeaving(conf.BGP.Drain.OnCordon)
		}
	}
	s.world.Drain = a.drain.look(ctx, leaving, conf.BGP.Drain)
	learned := a.learned()
	s.world.Learned, s.world.Converged = learned.Routes, learned.Converged
	if s.world.Uplink, err = a.uplink(ctx, conf, s.node); err != nil {
		return s, err
	}
	underlay, err := kernel.ReadUnderlay(ctx, vsdb.GatewayPort)
	s.world.Links, s.world.Underlay = moved(s.world.Uplink, underlay)
	if err != nil {
		return s, err
	}
	var without []kube.PeerProblem
	s.world.Peers, without = kube.AtGateways(s.world.Peers, s.world.Underlay)
	s.peers = append(s.peers, without...)
	return s, a.prober.look(ctx, &s.world, a.paths.Load() != nil)
}

// advertisements are those of the BGPAdvertisements.
func (s *sight) advertisements(ads kube.Advertisements) {
	s.world.Advertisements, s.world.ServiceAdvertisements = ads.PodCIDRs, ads.Services
	s.notes = append(s.notes, ads.Wrong...)
	if mode := s.world.Config.Services.Mode; ads.SelectServices && mode != config.ServicesAll {
		s.notes = append(s.notes, fmt.Sprintf("addresses of Services are not announced: services.mode is %s, and only with %s does the node serve them to others",
			mode, config.ServicesAll))
	}
}

// uplink finds the interface that leads to the other nodes.
func (a *Agent) uplink(ctx context.Context, conf *config.Config, node *kube.Node) (Uplink, error) {
	nic, err := kernel.SavedNIC(a.uplinkFile())
	if err != nil {
		return Uplink{}, err
	}
	found, err := kernel.DiscoverUplink(ctx, kernel.UplinkParams{
		Interface:     conf.Uplink.Interface,
		Bridge:        vsdb.ExternalBridge,
		NodeAddresses: node.Addresses,
	})
	if err != nil {
		return Uplink{}, err
	}
	u := Uplink{Name: found.Name, NIC: found.Name, MTU: found.PathMTU}
	if nic != "" {
		u.NIC = nic
	}
	if u.MAC, err = macOf(u.NIC); err != nil {
		return Uplink{}, err
	}
	if conf.Datapath == config.DatapathNetdev {
		u.Name = vsdb.ExternalBridge
	}
	return u, nil
}

// macOf returns the hardware address of a network interface. The bridge that
// stands in for it must be told this one and not asked for its own: the switch
// takes a bridge down to change its address, and its routes go with that.
func macOf(nic string) (net.HardwareAddr, error) {
	i, err := net.InterfaceByName(nic)
	if err != nil {
		return nil, fmt.Errorf("hardware address of uplink %s: %w", nic, err)
	}
	return i.HardwareAddr, nil
}

// moved names the uplink as it will be called once the network interface is a
// port of the bridge.
func moved(u Uplink, underlay kernel.Underlay) ([]routing.Link, []routing.Route) {
	for i := range underlay.Links {
		if underlay.Links[i].Name == u.NIC {
			underlay.Links[i].Name = u.Name
		}
	}
	for _, r := range underlay.Routes {
		for i := range r.NextHops {
			if r.NextHops[i].Interface == u.NIC {
				r.NextHops[i].Interface = u.Name
			}
		}
	}
	return underlay.Links, underlay.Routes
}

func (a *Agent) configFile() string { return filepath.Join(a.p.StateDir, config.ConfigMapKey) }

// configuration returns the configuration in force: the document's if it is
// valid, else the last valid one, which outlives the agent in a file. The error
// says what is wrong with the document. Both are set when an older
// configuration stays in force.
func (a *Agent) configuration(ctx context.Context, s *kube.Snapshot) (*config.Config, error) {
	d := s.Document
	if !d.Found {
		return a.lastConfig(ctx, fmt.Errorf("ConfigMap %s/%s with key %s does not exist",
			config.Namespace, config.ConfigMapName, config.ConfigMapKey))
	}
	conf, err := config.Load(d.Text, s.Families()...)
	if err != nil {
		return a.lastConfig(ctx, err)
	}
	a.refused = ""
	if a.conf == nil || string(a.confText) != string(d.Text) {
		klog.FromContext(ctx).Info("Configuration in force", "mode", conf.Mode, "version", d.Version)
		a.conf, a.confText = conf, d.Text
		if err := writeFile(a.configFile(), d.Text); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot keep the configuration for the next start")
		}
	}
	a.confVersion = d.Version
	return a.conf, nil
}

func (a *Agent) lastConfig(ctx context.Context, bad error) (*config.Config, error) {
	if a.refused != bad.Error() {
		a.refused = bad.Error()
		klog.FromContext(ctx).Error(bad, "Configuration refused, the last valid one stays in force")
	}
	if a.conf != nil {
		return a.conf, bad
	}
	text, err := os.ReadFile(a.configFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, bad
	}
	if err != nil {
		return nil, errors.Join(bad, err)
	}
	conf, err := config.Load(text)
	if err != nil {
		// Written by another version, perhaps; as good as none.
		return nil, bad
	}
	a.conf, a.confText = conf, text
	return conf, bad
}
