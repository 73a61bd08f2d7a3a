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
}

// Tunnel is how Pod packets are encapsulated where they are.
type Tunnel struct {
	Type encap.TunnelType
	// Port is the UDP destination port; 0: the protocol's own (6081 or 4789).
	Port     uint16
	Underlay encap.Underlay
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
		},
	}
}
