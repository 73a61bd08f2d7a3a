// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"cmp"
	"fmt"
	"net"
	"strconv"

	"github.com/waymark-net/waymark/encap"
)

// The external ID that marks what Waymark made, and its values.
const (
	OwnerKey   = "waymark-owner"
	OwnerAgent = "agent" // bridges and ports of Switch
	OwnerPod   = "pod"   // ports of Pods
)

// The names of the node's bridges and ports.
const (
	IntegrationBridge = "br-int"
	ExternalBridge    = "br-ext"
	GatewayPort       = "wm-gw0"
)

// The types of datapath (Bridge.datapath_type).
const (
	DatapathSystem = "system" // the kernel's
	DatapathNetdev = "netdev" // in userspace
)

// Switch is the desired state of everything but Pod ports.
type Switch struct {
	Bridges []Bridge
}

// Bridge is a desired bridge, identified by Name. Its local port of the same
// name exists without being named in Ports.
type Bridge struct {
	Name         string
	DatapathType string
	// FailMode is "secure" or "standalone".
	FailMode  string
	Protocols []string
	// OtherConfig holds the keys that matter here; other keys are left alone.
	OtherConfig map[string]string
	Ports       []Port
}

// Port is a desired port of a bridge with its one interface, identified by Name.
type Port struct {
	Name string
	// Type is an interface type of Open vSwitch; empty for an existing network
	// device. A port whose type has to change is removed and added.
	Type string
	// Options is the complete set.
	Options map[string]string
	// MAC is set on an internal port unless nil.
	MAC net.HardwareAddr
	// MTU in bytes is requested unless 0.
	MTU int
}

// Layout is what differs between the switches of Waymark's nodes.
type Layout struct {
	// Datapath is DatapathSystem or DatapathNetdev.
	Datapath   string
	GatewayMAC net.HardwareAddr
	// MTU of the gateway port in bytes.
	MTU int
	// Tunnels are those in use, each at a UDP port of its own.
	Tunnels []Tunnel
	// Uplink is nil if the network interface is left to the kernel.
	Uplink *Uplink
}

// Tunnel describes a tunnel port; flows choose the far end.
type Tunnel struct {
	Type encap.TunnelType
	// Port is the UDP destination port, 0 for the type's own.
	Port uint16
}

// udpPort is the UDP destination port.
func (t Tunnel) udpPort() uint16 { return cmp.Or(t.Port, t.Type.DefaultPort()) }

// PortName is the name of the tunnel's port on the integration bridge. It tells
// tunnels apart, so that there can be several while a cluster changes from one to
// the other.
func (t Tunnel) PortName() string { return fmt.Sprintf("wm-%s-%d", t.Type, t.udpPort()) }

// Uplink is the network interface that moves under the external bridge, which
// takes over its MAC address, so that userspace tunnels reach the wire.
type Uplink struct {
	Name string
	MAC  net.HardwareAddr
}

// Identity of the integration bridge. Left alone, Open vSwitch derives both
// from the ports' MAC addresses, and cuts every OpenFlow connection when the
// datapath ID changes with them. The bridge's own interface sends nothing, so
// all nodes can share one address.
const (
	integrationMAC        = "0a:57:4d:00:00:02"
	integrationDatapathID = "00000a574d000002"
)

func protocols() []string { return []string{"OpenFlow13", "OpenFlow14", "OpenFlow15"} }

// Switch returns the desired state for a layout.
func (l Layout) Switch() Switch {
	integration := Bridge{
		Name:         IntegrationBridge,
		DatapathType: l.Datapath,
		FailMode:     "secure",
		Protocols:    protocols(),
		OtherConfig: map[string]string{
			"hwaddr":          integrationMAC,
			"datapath-id":     integrationDatapathID,
			"disable-in-band": "true",
		},
		Ports: []Port{{Name: GatewayPort, Type: "internal", MAC: l.GatewayMAC, MTU: l.MTU}},
	}
	for _, t := range l.Tunnels {
		integration.Ports = append(integration.Ports, Port{
			Name: t.PortName(),
			Type: string(t.Type),
			Options: map[string]string{
				"remote_ip": "flow",
				"key":       "flow",
				"csum":      "true",
				"dst_port":  strconv.Itoa(int(t.udpPort())),
			},
		})
	}
	sw := Switch{Bridges: []Bridge{integration}}
	if u := l.Uplink; u != nil {
		sw.Bridges = append(sw.Bridges, Bridge{
			Name:         ExternalBridge,
			DatapathType: l.Datapath,
			FailMode:     "standalone",
			Protocols:    protocols(),
			OtherConfig:  map[string]string{"hwaddr": u.MAC.String()},
			Ports:        []Port{{Name: u.Name}},
		})
	}
	return sw
}
