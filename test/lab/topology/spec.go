// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Families are the IP families of a lab.
type Families string

// The three kinds of cluster.
const (
	IPv4 Families = "ipv4"
	IPv6 Families = "ipv6"
	Dual Families = "dual"
)

// Has tells whether addresses of the kind of a are used.
func (f Families) Has(a netip.Addr) bool {
	return f == Dual || (f == IPv4) == a.Is4()
}

// Spec describes the network of a lab.
type Spec struct {
	// Nodes are spread over Racks in order: the first racks get one more.
	Nodes int `json:"nodes"`
	Racks int `json:"racks"`
	// Families of every network, and of the cluster.
	Families Families `json:"families"`
	// DualHomed gives each rack a second ToR; nodes then have two default gateways.
	DualHomed bool `json:"dualHomed"`
	// MTU of every link, LinkMTU of single links by name.
	MTU      int            `json:"mtu"`
	LinkMTU  map[string]int `json:"linkMTU,omitempty"`
	Networks Networks       `json:"networks"`
	Routers  Routers        `json:"routers"`
}

// Networks are the address ranges of a lab.
type Networks struct {
	PodIPv4     netip.Prefix `json:"podIPv4"`
	PodIPv6     netip.Prefix `json:"podIPv6"`
	ServiceIPv4 netip.Prefix `json:"serviceIPv4"`
	ServiceIPv6 netip.Prefix `json:"serviceIPv6"`
	// NodeMaskIPv4 and NodeMaskIPv6 are the lengths of a node's Pod CIDRs.
	NodeMaskIPv4 int `json:"nodeMaskIPv4"`
	NodeMaskIPv6 int `json:"nodeMaskIPv6"`
	// Hosts are split into a subnet (/24, /64) a rack, and one each for the
	// control plane and the client.
	HostIPv4 netip.Prefix `json:"hostIPv4"`
	HostIPv6 netip.Prefix `json:"hostIPv6"`
	// Fabric is split into a subnet (/31, /127) a link between routers.
	FabricIPv4 netip.Prefix `json:"fabricIPv4"`
	FabricIPv6 netip.Prefix `json:"fabricIPv6"`
}

// Sessions say how a node and its ToR exchange two families.
type Sessions string

// The ways to carry two families.
const (
	// PerFamily is one session over each family that the lab has.
	PerFamily Sessions = "perFamily"
	// OverIPv4 and OverIPv6 are one session that carries both families, the
	// latter with IPv6 next hops for IPv4 prefixes (RFC 8950).
	OverIPv4 Sessions = "ipv4"
	OverIPv6 Sessions = "ipv6"
)

// Routers are the settings of the routers that face the nodes.
type Routers struct {
	// NodeASN is the nodes' ASN. A rack's ToRs have the ASNs 65001 and 65101
	// and so on, the spine has 65000; with IBGP the ToRs have NodeASN as well.
	NodeASN uint32   `json:"nodeASN"`
	IBGP    bool     `json:"ibgp"`
	Session Sessions `json:"sessions"`
	// Password is for TCP MD5 (RFC 2385) towards nodes; none when empty.
	Password string `json:"password,omitempty"`
	// GTSM makes the ToRs accept nodes only from one hop away (RFC 5082).
	GTSM bool `json:"gtsm"`
	// BFD makes ToRs and nodes use BFD on their sessions (RFC 5880), every 300 ms
	// and with a multiplier of 8: all of them share the processors of one machine,
	// where a node can be without one for as long as a multiplier of 3 allows. Not by
	// default: it ends the sessions of nodes whose userspace switch is restarted, and
	// much of what is tested is how soon those are back.
	BFD bool `json:"bfd"`
	// Keepalive and Hold time of every session.
	Keepalive time.Duration `json:"keepalive"`
	Hold      time.Duration `json:"hold"`
	// DefaultRoute makes the ToRs announce a default route to the nodes.
	DefaultRoute bool `json:"defaultRoute"`
}

// DefaultSpec is the default topology: three nodes in two racks, dual-stack.
func DefaultSpec() Spec {
	return Spec{
		Nodes:    3,
		Racks:    2,
		Families: Dual,
		MTU:      1500,
		Networks: Networks{
			PodIPv4:      netip.MustParsePrefix("10.10.0.0/16"),
			PodIPv6:      netip.MustParsePrefix("fd10:10::/48"),
			NodeMaskIPv4: 24,
			NodeMaskIPv6: 64,
			ServiceIPv4:  netip.MustParsePrefix("10.96.0.0/16"),
			ServiceIPv6:  netip.MustParsePrefix("fd00:96::/112"),
			HostIPv4:     netip.MustParsePrefix("172.30.0.0/16"),
			HostIPv6:     netip.MustParsePrefix("fd30::/48"),
			FabricIPv4:   netip.MustParsePrefix("172.31.0.0/16"),
			FabricIPv6:   netip.MustParsePrefix("fd31::/48"),
		},
		Routers: Routers{
			NodeASN:   64512,
			Session:   PerFamily,
			BFD:       false,
			Keepalive: 3 * time.Second,
			Hold:      9 * time.Second,
		},
	}
}

const (
	maxRacks        = 26
	maxNodesPerRack = 200
	minMTU          = 576
	minMTUIPv6      = 1280
	maxMTU          = 65535
)

// Validate reports everything that is wrong.
func (s Spec) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Racks < 1 || s.Racks > maxRacks {
		fail("racks: %d, want 1 to %d", s.Racks, maxRacks)
	} else if s.Nodes < 0 || s.Nodes > maxNodesPerRack*s.Racks {
		fail("nodes: %d, want 0 to %d in %d racks", s.Nodes, maxNodesPerRack*s.Racks, s.Racks)
	}
	switch s.Families {
	case IPv4, IPv6, Dual:
	default:
		fail("families: %q, want %s, %s or %s", s.Families, IPv4, IPv6, Dual)
	}
	switch s.Routers.Session {
	case PerFamily, OverIPv4, OverIPv6:
	default:
		fail("sessions: %q, want %s, %s or %s", s.Routers.Session, PerFamily, OverIPv4, OverIPv6)
	}
	if s.Families == IPv4 && s.Routers.Session == OverIPv6 || s.Families == IPv6 && s.Routers.Session == OverIPv4 {
		fail("sessions over %s in a lab with %s only", s.Routers.Session, s.Families)
	}
	if s.Routers.NodeASN == 0 {
		fail("node ASN: 0")
	}
	if s.Routers.Keepalive < time.Second || s.Routers.Hold < 3*time.Second {
		fail("timers: keepalive %s and hold %s, want at least 1s and 3s", s.Routers.Keepalive, s.Routers.Hold)
	}
	for name, mtu := range s.mtus() {
		least := minMTUIPv6
		if s.Families == IPv4 {
			least = minMTU
		}
		if mtu < least || mtu > maxMTU {
			fail("MTU of %s: %d, want %d to %d", name, mtu, least, maxMTU)
		}
	}
	return errors.Join(append(errs, s.Networks.validate())...)
}

func (s Spec) mtus() map[string]int {
	all := map[string]int{"all links": s.MTU}
	for name, mtu := range s.LinkMTU {
		all["link "+name] = mtu
	}
	return all
}

func (n Networks) validate() error {
	var errs []error
	for _, r := range []struct {
		name   string
		prefix netip.Prefix
		v4     bool
		most   int // longest prefix that can be split as needed
	}{
		{"Pod IPv4", n.PodIPv4, true, n.NodeMaskIPv4},
		{"Pod IPv6", n.PodIPv6, false, n.NodeMaskIPv6},
		{"Service IPv4", n.ServiceIPv4, true, 30},
		{"Service IPv6", n.ServiceIPv6, false, 126},
		{"host IPv4", n.HostIPv4, true, 16},
		{"host IPv6", n.HostIPv6, false, 48},
		{"fabric IPv4", n.FabricIPv4, true, 24},
		{"fabric IPv6", n.FabricIPv6, false, 112},
	} {
		if !r.prefix.IsValid() || r.prefix.Addr().Is4() != r.v4 || r.prefix.Bits() > r.most || r.prefix.Masked() != r.prefix {
			errs = append(errs, fmt.Errorf("%s network: %s, want a network of that family with at most %d bits", r.name, r.prefix, r.most))
		}
	}
	return errors.Join(errs...)
}
