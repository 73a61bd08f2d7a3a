// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
)

// The database and its tables, with the columns in use.
const (
	databaseName   = "Open_vSwitch"
	rootTable      = "Open_vSwitch"
	bridgeTable    = "Bridge"
	portTable      = "Port"
	interfaceTable = "Interface"
)

type rootRow struct {
	UUID    string   `ovsdb:"_uuid"`
	Bridges []string `ovsdb:"bridges"`
	// NextCfg counts what clients asked ovs-vswitchd to do, CurCfg what it has done.
	NextCfg int `ovsdb:"next_cfg"`
	CurCfg  int `ovsdb:"cur_cfg"`
}

type bridgeRow struct {
	UUID         string            `ovsdb:"_uuid"`
	Name         string            `ovsdb:"name"`
	DatapathType string            `ovsdb:"datapath_type"`
	FailMode     *string           `ovsdb:"fail_mode"`
	Protocols    []string          `ovsdb:"protocols"`
	OtherConfig  map[string]string `ovsdb:"other_config"`
	ExternalIDs  map[string]string `ovsdb:"external_ids"`
	Ports        []string          `ovsdb:"ports"`
}

type portRow struct {
	UUID       string   `ovsdb:"_uuid"`
	Name       string   `ovsdb:"name"`
	Interfaces []string `ovsdb:"interfaces"`
}

type interfaceRow struct {
	UUID        string            `ovsdb:"_uuid"`
	Name        string            `ovsdb:"name"`
	Type        string            `ovsdb:"type"`
	Options     map[string]string `ovsdb:"options"`
	ExternalIDs map[string]string `ovsdb:"external_ids"`
	MAC         *string           `ovsdb:"mac"`
	MTURequest  *int              `ovsdb:"mtu_request"`
	OFPort      *int              `ovsdb:"ofport"`
	Error       *string           `ovsdb:"error"`
	Ifindex     *int              `ovsdb:"ifindex"`
}

func databaseModel() (model.ClientDBModel, error) {
	return model.NewClientDBModel(databaseName, map[string]model.Model{
		rootTable:      &rootRow{},
		bridgeTable:    &bridgeRow{},
		portTable:      &portRow{},
		interfaceTable: &interfaceRow{},
	})
}

// monitored asks for the columns in use only: the others include statistics
// that change every few seconds.
func monitored() []client.MonitorOption {
	root, br, port, iface := &rootRow{}, &bridgeRow{}, &portRow{}, &interfaceRow{}
	return []client.MonitorOption{
		client.WithTable(root, &root.Bridges, &root.NextCfg, &root.CurCfg),
		client.WithTable(br, &br.Name, &br.DatapathType, &br.FailMode, &br.Protocols, &br.OtherConfig,
			&br.ExternalIDs, &br.Ports),
		client.WithTable(port, &port.Name, &port.Interfaces),
		client.WithTable(iface, &iface.Name, &iface.Type, &iface.Options, &iface.ExternalIDs, &iface.MAC,
			&iface.MTURequest, &iface.OFPort, &iface.Error, &iface.Ifindex),
	}
}

// snapshot is the content of the database at one moment.
type snapshot struct {
	rootUUID string // empty: the database was never initialized
	bridges  map[string]*actualBridge
	// portBridge names the bridge of every port.
	portBridge map[string]string
}

type actualBridge struct {
	row   bridgeRow
	ports map[string]actualPort
}

// actualPort is a port with its first interface; Waymark makes no bonds.
type actualPort struct {
	uuid  string
	iface interfaceRow
}

func newSnapshot(roots []rootRow, bridges []bridgeRow, ports []portRow, ifaces []interfaceRow) snapshot {
	s := snapshot{bridges: map[string]*actualBridge{}, portBridge: map[string]string{}}
	for _, r := range roots {
		s.rootUUID = r.UUID
	}
	ifaceByUUID := make(map[string]interfaceRow, len(ifaces))
	for _, i := range ifaces {
		ifaceByUUID[i.UUID] = i
	}
	portByUUID := make(map[string]portRow, len(ports))
	for _, p := range ports {
		portByUUID[p.UUID] = p
	}
	for _, b := range bridges {
		ab := &actualBridge{row: b, ports: make(map[string]actualPort, len(b.Ports))}
		for _, pu := range b.Ports {
			p, ok := portByUUID[pu]
			if !ok {
				continue
			}
			ap := actualPort{uuid: p.UUID, iface: interfaceRow{Name: p.Name}}
			for _, iu := range p.Interfaces {
				if i, ok := ifaceByUUID[iu]; ok {
					ap.iface = i
					break
				}
			}
			ab.ports[p.Name] = ap
			s.portBridge[p.Name] = b.Name
		}
		s.bridges[b.Name] = ab
	}
	return s
}

// PortStatus is what the database says of a port.
type PortStatus struct {
	Name   string
	Bridge string
	// OFPort is the OpenFlow port number, 0 if there is none (yet).
	OFPort uint32
	// Error says why ovs-vswitchd could not make the port, empty if it could.
	Error string
	// Ifindex of the network device, 0 if there is none. It changes when the
	// device was made anew, which then has lost its addresses.
	Ifindex     int
	ExternalIDs map[string]string
}

// status translates a row. Open vSwitch reports failure as OpenFlow port -1.
func (i interfaceRow) status(bridge string) PortStatus {
	st := PortStatus{Name: i.Name, Bridge: bridge, ExternalIDs: i.ExternalIDs}
	if i.OFPort != nil && *i.OFPort > 0 {
		st.OFPort = uint32(*i.OFPort)
	}
	if i.failed() {
		st.Error = "no OpenFlow port"
	}
	if i.Error != nil && *i.Error != "" {
		st.Error = *i.Error
	}
	if i.Ifindex != nil {
		st.Ifindex = *i.Ifindex
	}
	return st
}

func (i interfaceRow) failed() bool { return i.OFPort != nil && *i.OFPort < 0 }
