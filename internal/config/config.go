// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"time"

	"github.com/waymark-net/waymark/encap"
	"github.com/waymark-net/waymark/routing"
)

// What the document calls itself, and where it is kept.
const (
	APIVersion    = "config.waymark.io/v1alpha1"
	Kind          = "WaymarkConfiguration"
	Namespace     = "kube-system"
	ConfigMapName = "waymark-config"
	ConfigMapKey  = "waymark.yaml"
)

// Datapath is the kind of Open vSwitch datapath.
type Datapath string

// The datapaths.
const (
	// DatapathSystem is the openvswitch kernel module.
	DatapathSystem Datapath = "system"
	// DatapathNetdev is Open vSwitch's userspace datapath.
	DatapathNetdev Datapath = "netdev"
)

// SNATMode says when packets from Pods get the node's address as their source.
type SNATMode string

// The SNAT modes.
const (
	// SNATAuto masquerades what leaves the cluster, except towards NonMasqueradeCIDRs.
	SNATAuto SNATMode = "Auto"
	// SNATAlways masquerades whatever leaves the cluster.
	SNATAlways SNATMode = "Always"
	// SNATNever masquerades nothing.
	SNATNever SNATMode = "Never"
)

// HostFirewall chooses the program of the host that carries SNAT and forward rules.
type HostFirewall string

// The host firewalls.
const (
	// HostFirewallAuto takes nftables, and iptables where the kernel has no nftables.
	HostFirewallAuto     HostFirewall = "auto"
	HostFirewallNFTables HostFirewall = "nftables"
	HostFirewallIPTables HostFirewall = "iptables"
)

// WithoutController says what happens to a new Pod while the node has no
// connection to a controller, which alone can compute its policies.
type WithoutController string

// The choices.
const (
	// WithoutControllerLastKnown starts a Pod whose namespace and labels the
	// node knows from another one, under the policies that were in force last.
	// Other Pods wait.
	WithoutControllerLastKnown WithoutController = "LastKnown"
	// WithoutControllerWait lets every new Pod wait.
	WithoutControllerWait WithoutController = "Wait"
)

// ServicesMode says which Services the switch serves.
type ServicesMode string

// The modes.
const (
	// ServicesAll serves everybody at every address of Services, without
	// kube-proxy.
	ServicesAll ServicesMode = "All"
	// ServicesClusterIPOnly serves Pods at ClusterIPs. The rest is kube-proxy's.
	ServicesClusterIPOnly ServicesMode = "ClusterIPOnly"
	// ServicesDisabled leaves Services to kube-proxy.
	ServicesDisabled ServicesMode = "Disabled"
)

// Config is the configuration of a cluster, parsed and validated.
type Config struct {
	Mode     routing.Mode
	Datapath Datapath
	Tunnel   Tunnel
	// MTU of Pod interfaces in bytes; 0: found from the uplink and the path.
	MTU                int
	SNAT               SNATMode
	NonMasqueradeCIDRs []netip.Prefix
	// TrustDefaultRoute lets the default route carry Pod traffic in noEncap.
	TrustDefaultRoute bool
	Uplink            Uplink
	BGP               BGP
	HostFirewall      HostFirewall
	NetworkPolicy     NetworkPolicy
	Services          Services
}

// Tunnel is how Pod packets are encapsulated where they are.
type Tunnel struct {
	Type encap.TunnelType
	// Port is the UDP destination port; 0: the protocol's own (6081 or 4789).
	Port     uint16
	Underlay encap.Underlay
}

// NetworkPolicy is how policies are enforced.
type NetworkPolicy struct {
	// PodTimeout is how long the start of a Pod waits for its policies, in
	// whole seconds; then it fails, and the kubelet tries again.
	PodTimeout        time.Duration
	WithoutController WithoutController
	// LogDenied has denied packets logged, at a limited rate.
	LogDenied bool
}

// Services is how Services are served.
type Services struct {
	Mode ServicesMode
	// NodePortAddresses are the networks in which a node's addresses answer for
	// NodePorts; see NodePortAt.
	NodePortAddresses []netip.Prefix
}

// NodePortAt reports whether NodePorts are served at an address of a node: where
// NodePortAddresses names networks of its family, one of them must have it.
func (s Services) NodePortAt(a netip.Addr) bool {
	named := false
	for _, p := range s.NodePortAddresses {
		if p.Contains(a) {
			return true
		}
		named = named || p.Addr().Is4() == a.Is4()
	}
	return !named
}

// Uplink names the interface towards the other nodes.
type Uplink struct {
	// Interface may be empty: the interface that holds the node's InternalIP.
	Interface string
}

// BGP configures the speaker of every node. A node speaks BGP only where a
// BGPPeer selects it.
type BGP struct {
	Enabled bool
	// ASN of every node whose labels do not say otherwise.
	ASN uint32
	// ASNNodeLabel is the key of the node label that overrides ASN; may be empty.
	ASNNodeLabel string
	// ListenPort is the TCP port for incoming sessions; -1: do not listen.
	ListenPort      int
	GracefulRestart GracefulRestart
	// MaximumPaths is the largest number of equal-cost next hops of a route.
	MaximumPaths int
	Drain        Drain
}

// Drain is how addresses of Services are taken off a node that is about to go.
type Drain struct {
	// OnCordon says that a node which is cordoned is about to go.
	OnCordon bool
	// Time that routers get to follow, in whole seconds.
	Time time.Duration
}

// GracefulRestart is RFC 4724 as the speaker offers it to its peers.
type GracefulRestart struct {
	Enabled bool
	// RestartTime in whole seconds, at most 4095 s (12 bits on the wire).
	RestartTime time.Duration
}

// Default returns the configuration of a document that states nothing.
func Default() *Config {
	return &Config{
		Mode:         routing.ModeNoEncap,
		Datapath:     DatapathSystem,
		Tunnel:       Tunnel{Type: encap.Geneve, Underlay: encap.UnderlayAuto},
		SNAT:         SNATAuto,
		HostFirewall: HostFirewallAuto,
		BGP: BGP{
			Enabled:         true,
			ASN:             64512,
			ListenPort:      179,
			GracefulRestart: GracefulRestart{Enabled: true, RestartTime: 120 * time.Second},
			MaximumPaths:    8,
			Drain:           Drain{OnCordon: true, Time: 5 * time.Second},
		},
		NetworkPolicy: NetworkPolicy{PodTimeout: 20 * time.Second, WithoutController: WithoutControllerLastKnown},
		Services:      Services{Mode: ServicesAll},
	}
}
