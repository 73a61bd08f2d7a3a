// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"fmt"
	"net/netip"
	"slices"
)

// Role is what a host is for.
type Role string

// The roles.
const (
	RoleNode         Role = "node"
	RoleSwitch       Role = "switch"
	RoleToR          Role = "tor"
	RoleSpine        Role = "spine"
	RoleControlPlane Role = "control-plane"
	RoleClient       Role = "client"
)

// The hosts that every lab has once.
const (
	Spine        = "spine"
	ControlPlane = "cp"
	Client       = "client"
)

// Bridge is the name of the bridge in a rack's switch.
const Bridge = "br0"

// Host is one machine of the lab.
type Host struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Rack is the letter of the rack: of nodes, switches and ToRs.
	Rack       string      `json:"rack,omitempty"`
	ASN        uint32      `json:"asn,omitempty"` // of routers
	RouterID   netip.Addr  `json:"routerID,omitzero"`
	Interfaces []Interface `json:"interfaces"`
	// Gateways are the next hops of the default routes; several of one family
	// form one multipath route.
	Gateways []netip.Addr `json:"gateways,omitempty"`
}

// Router tells whether the host runs FRR.
func (h Host) Router() bool { return h.Role == RoleToR || h.Role == RoleSpine }

// Addresses returns all addresses of the host, IPv4 first.
func (h Host) Addresses() []netip.Addr {
	var addrs []netip.Addr
	for _, i := range h.Interfaces {
		for _, p := range i.Addresses {
			addrs = append(addrs, p.Addr())
		}
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return addrs
}

// Interface is one end of a link.
type Interface struct {
	Name string `json:"name"`
	Link string `json:"link"`
	// Peer is the host at the other end.
	Peer      string         `json:"peer"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
}

// Link is a cable. A is the host further away from the spine.
type Link struct {
	Name string `json:"name"`
	A    End    `json:"a"`
	B    End    `json:"b"`
	MTU  int    `json:"mtu"`
}

// End is where a link ends.
type End struct {
	Host      string `json:"host"`
	Interface string `json:"interface"`
}

// Topology is a laid-out network. It is recorded as JSON.
type Topology struct {
	Spec  Spec   `json:"spec"`
	Hosts []Host `json:"hosts"`
	Links []Link `json:"links"`
	// NextNode numbers the next node that joins, so that addresses of nodes
	// that left are not given again.
	NextNode int `json:"nextNode"`
}

const (
	cpSubnet     = 100
	clientSubnet = 200
	spineASN     = 65000
	firstHost    = 10 // the control plane, the client; nodes follow in their racks
)

// New lays out the network of a validated description.
func New(spec Spec) (*Topology, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	t := &Topology{Spec: spec, NextNode: 1}
	t.addHost(Host{Name: Spine, Role: RoleSpine, ASN: spineASN, RouterID: routerID(0)})
	for rack := range spec.Racks {
		t.addRack(rack)
	}
	for _, end := range []struct {
		name   string
		role   Role
		subnet int
	}{{ControlPlane, RoleControlPlane, cpSubnet}, {Client, RoleClient, clientSubnet}} {
		t.addHost(Host{Name: end.name, Role: end.role, Gateways: t.addresses(end.subnet, 1)})
		t.addLink(End{end.name, "eth0"}, End{Spine, end.name}, t.subnetPrefixes(end.subnet, firstHost), t.subnetPrefixes(end.subnet, 1))
	}
	for rack := range spec.Racks {
		count := spec.Nodes / spec.Racks
		if rack < spec.Nodes%spec.Racks {
			count++
		}
		for range count {
			if _, err := t.AddNode(fmt.Sprintf("n%d", t.NextNode), rackLetter(rack)); err != nil {
				return nil, err
			}
		}
	}
	return t, t.checkLinkMTU()
}

func rackLetter(rack int) string { return string(rune('A' + rack)) }

// SwitchName is the name of a rack's switch.
func SwitchName(rack string) string { return "rack" + rack }

func (t *Topology) addRack(rack int) {
	letter := rackLetter(rack)
	t.addHost(Host{Name: SwitchName(letter), Role: RoleSwitch, Rack: letter})
	tors := 1
	if t.Spec.DualHomed {
		tors = 2
	}
	for tor := range tors {
		name := "tor" + letter
		if tor > 0 {
			name += "2"
		}
		asn := uint32(spineASN + 1 + rack + 100*tor)
		if t.Spec.Routers.IBGP {
			asn = t.Spec.Routers.NodeASN
		}
		number := 1 + rack + 100*tor
		h := Host{Name: name, Role: RoleToR, Rack: letter, ASN: asn, RouterID: routerID(number)}
		if tors == 2 {
			// Nodes send to either, so each has the other as its last resort
			// when it has lost its own way out.
			h.Gateways = t.addresses(rack+1, 2-tor)
		}
		t.addHost(h)
		t.addLink(End{name, SwitchName(letter)}, End{SwitchName(letter), name}, t.subnetPrefixes(rack+1, tor+1), nil)
		spineEnd, torEnd := t.fabricPrefixes(number)
		t.addLink(End{name, Spine}, End{Spine, name}, torEnd, spineEnd)
	}
}

// routerID only has to be unique; it is no address of the lab.
func routerID(number int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(number)}) }

// AddNode lays out one more node in a rack and returns it.
func (t *Topology) AddNode(name, rack string) (Host, error) {
	at := slices.IndexFunc(t.Hosts, func(h Host) bool { return h.Role == RoleSwitch && h.Rack == rack })
	if at < 0 {
		return Host{}, fmt.Errorf("node %s: no rack %q", name, rack)
	}
	if _, ok := t.Host(name); ok {
		return Host{}, fmt.Errorf("node %s: there is a host of that name", name)
	}
	if t.NextNode > maxNodesPerRack {
		return Host{}, fmt.Errorf("node %s: all %d node addresses have been given", name, maxNodesPerRack)
	}
	subnet := int(rack[0]-'A') + 1
	gateways := t.addresses(subnet, 1)
	if t.Spec.DualHomed {
		gateways = append(gateways, t.addresses(subnet, 2)...)
	}
	t.addHost(Host{Name: name, Role: RoleNode, Rack: rack, Gateways: gateways})
	t.addLink(End{name, "eth0"}, End{SwitchName(rack), name}, t.subnetPrefixes(subnet, firstHost+t.NextNode), nil)
	t.NextNode++
	node, _ := t.Host(name)
	return node, nil
}

// RemoveNode forgets a node and its link.
func (t *Topology) RemoveNode(name string) error {
	node, ok := t.Host(name)
	if !ok || node.Role != RoleNode {
		return fmt.Errorf("no node %q", name)
	}
	t.Hosts = slices.DeleteFunc(t.Hosts, func(h Host) bool { return h.Name == name })
	t.Links = slices.DeleteFunc(t.Links, func(l Link) bool { return l.A.Host == name })
	for i := range t.Hosts {
		t.Hosts[i].Interfaces = slices.DeleteFunc(t.Hosts[i].Interfaces, func(f Interface) bool { return f.Peer == name })
	}
	return nil
}

func (t *Topology) addHost(h Host) { t.Hosts = append(t.Hosts, h) }

func (t *Topology) addLink(a, b End, aAddresses, bAddresses []netip.Prefix) {
	link := Link{Name: a.Host + "-" + b.Host, A: a, B: b, MTU: t.Spec.MTU}
	if mtu, ok := t.Spec.LinkMTU[link.Name]; ok {
		link.MTU = mtu
	}
	t.Links = append(t.Links, link)
	for _, end := range []struct {
		End
		peer      string
		addresses []netip.Prefix
	}{{a, b.Host, aAddresses}, {b, a.Host, bAddresses}} {
		h := &t.Hosts[slices.IndexFunc(t.Hosts, func(h Host) bool { return h.Name == end.Host })]
		h.Interfaces = append(h.Interfaces, Interface{Name: end.Interface, Link: link.Name, Peer: end.peer, Addresses: end.addresses})
	}
}

func (t *Topology) checkLinkMTU() error {
	for name := range t.Spec.LinkMTU {
		if _, ok := t.Link(name); !ok {
			return fmt.Errorf("MTU of link %s: no such link, have %s", name, t.linkNames())
		}
	}
	return nil
}
