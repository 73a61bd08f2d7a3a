// SPDX-License-Identifier: Apache-2.0

package router

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// parseRoutes reads the given routes to single addresses out of what
// ovs/route/show says. A line is "User: PREFIX [MARK n] dev BRIDGE [GW a] [SRC a]".
func parseRoutes(text string) ([]Route, error) {
	var out []Route
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "User:" {
			continue
		}
		prefix, err := netip.ParsePrefix(fields[1])
		if err != nil {
			return nil, fmt.Errorf("route %q of the switch: %w", strings.TrimSpace(line), err)
		}
		if !prefix.IsSingleIP() {
			continue
		}
		r := Route{Dst: prefix.Addr().Unmap()}
		for i := 2; i+1 < len(fields); i += 2 {
			var err error
			switch value := fields[i+1]; fields[i] {
			case "dev":
				r.Bridge = value
			case "GW":
				r.Gateway, err = netip.ParseAddr(value)
			}
			if err != nil {
				return nil, fmt.Errorf("route %q of the switch: %w", strings.TrimSpace(line), err)
			}
		}
		out = append(out, r)
	}
	return out, nil
}

// parseNeighbours reads what tnl/neigh/show says: a header of two lines, and lines
// of address, link-layer address and bridge.
func parseNeighbours(text string) ([]Neighbour, error) {
	var out []Neighbour
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] == "IP" {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			return nil, fmt.Errorf("neighbour %q of the switch: %w", strings.TrimSpace(line), err)
		}
		mac, err := net.ParseMAC(fields[1])
		if err != nil {
			return nil, fmt.Errorf("neighbour %q of the switch: %w", strings.TrimSpace(line), err)
		}
		out = append(out, Neighbour{Addr: addr.Unmap(), MAC: mac, Bridge: fields[2]})
	}
	return out, nil
}
