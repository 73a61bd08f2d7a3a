// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"maps"
	"slices"
	"strings"
)

type changeKind uint8

// The kinds of change, in the order in which they are applied within a bridge.
const (
	initDatabase changeKind = iota
	addBridge
	updateBridge
	delPort
	addPort
	updatePort
	delBridge
)

func (k changeKind) String() string {
	return [...]string{"initialize database", "add bridge", "update bridge", "remove port", "add port",
		"update port", "remove bridge"}[k]
}

// change is one transaction's worth of difference.
type change struct {
	kind   changeKind
	bridge Bridge // Name at least
	port   Port   // for the kinds on ports; Name at least
	// portBridge is where a port to remove is, if not in bridge.
	portBridge string
}

// diff returns what turns actual into desired. Bridges and ports that are
// neither desired nor marked as the agent's own are left alone.
func diff(desired Switch, actual snapshot) []change {
	var out []change
	if actual.rootUUID == "" {
		out = append(out, change{kind: initDatabase})
	}
	wanted := map[string]bool{}
	for _, b := range desired.Bridges {
		wanted[b.Name] = true
		out = append(out, diffBridge(b, actual)...)
	}
	for _, name := range slices.Sorted(maps.Keys(actual.bridges)) {
		if !wanted[name] && actual.bridges[name].row.ExternalIDs[OwnerKey] == OwnerAgent {
			out = append(out, change{kind: delBridge, bridge: Bridge{Name: name}})
		}
	}
	return out
}

func diffBridge(b Bridge, actual snapshot) []change {
	var out []change
	existing, ok := actual.bridges[b.Name]
	switch {
	case !ok:
		out = append(out, change{kind: addBridge, bridge: b})
		existing = &actualBridge{ports: map[string]actualPort{b.Name: localPort(b.Name)}}
	case !bridgeEqual(b, existing.row):
		out = append(out, change{kind: updateBridge, bridge: b})
	}
	// The bridge's own port first: without it the bridge has no interface.
	ports := append([]Port{{Name: b.Name, Type: "internal"}}, b.Ports...)
	wanted := make(map[string]bool, len(ports))
	for _, p := range ports {
		wanted[p.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(existing.ports)) {
		if !wanted[name] && existing.ports[name].iface.ExternalIDs[OwnerKey] == OwnerAgent {
			out = append(out, change{kind: delPort, bridge: b, port: Port{Name: name}, portBridge: b.Name})
		}
	}
	for _, p := range ports {
		out = append(out, diffPort(b, p, existing, actual)...)
	}
	return out
}

func diffPort(b Bridge, p Port, existing *actualBridge, actual snapshot) []change {
	add := change{kind: addPort, bridge: b, port: p}
	ap, ok := existing.ports[p.Name]
	if !ok {
		// A port of ours on another bridge moves; with somebody else's the
		// addition fails and says where it is.
		if other, ok := actual.portBridge[p.Name]; ok &&
			actual.bridges[other].ports[p.Name].iface.ExternalIDs[OwnerKey] == OwnerAgent {
			return []change{{kind: delPort, bridge: b, port: p, portBridge: other}, add}
		}
		return []change{add}
	}
	if ap.iface.Type != p.Type {
		return []change{{kind: delPort, bridge: b, port: p, portBridge: b.Name}, add}
	}
	if !portEqual(p, ap.iface) {
		return []change{{kind: updatePort, bridge: b, port: p}}
	}
	return nil
}

func localPort(name string) actualPort {
	return actualPort{iface: interfaceRow{
		Name: name, Type: "internal", ExternalIDs: map[string]string{OwnerKey: OwnerAgent},
	}}
}

func bridgeEqual(want Bridge, got bridgeRow) bool {
	for k, v := range want.OtherConfig {
		if g, ok := got.OtherConfig[k]; !ok || g != v {
			return false
		}
	}
	wantProtocols, gotProtocols := slices.Clone(want.Protocols), slices.Clone(got.Protocols)
	slices.Sort(wantProtocols)
	slices.Sort(gotProtocols)
	return want.DatapathType == got.DatapathType &&
		got.FailMode != nil && *got.FailMode == want.FailMode &&
		slices.Equal(wantProtocols, gotProtocols) &&
		got.ExternalIDs[OwnerKey] == OwnerAgent
}

func portEqual(want Port, got interfaceRow) bool {
	if want.MAC != nil && (got.MAC == nil || !strings.EqualFold(*got.MAC, want.MAC.String())) {
		return false
	}
	if want.MTU != 0 && (got.MTURequest == nil || *got.MTURequest != want.MTU) {
		return false
	}
	return maps.Equal(want.Options, got.Options) && got.ExternalIDs[OwnerKey] == OwnerAgent
}
