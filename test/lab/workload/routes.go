// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/waymark-net/waymark/test/lab/cluster"
)

// NodeCIDRs are the Pod networks of a node.
type NodeCIDRs struct {
	Name     string
	PodCIDRs []netip.Prefix
}

// PodCIDRs asks the API server for the Pod networks of all nodes.
func PodCIDRs(ctx context.Context, lab *cluster.Lab) ([]NodeCIDRs, error) {
	out, err := lab.Kubectl(ctx, "get", "nodes", "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct{ PodCIDRs []netip.Prefix }
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("Pod CIDRs of the nodes: %w", err)
	}
	var nodes []NodeCIDRs
	for _, item := range list.Items {
		nodes = append(nodes, NodeCIDRs{Name: item.Metadata.Name, PodCIDRs: item.Spec.PodCIDRs})
	}
	return nodes, nil
}

// KnownPrefixes are the prefixes in a router's routing table that it learned
// over BGP and forwards by, in both families.
func KnownPrefixes(ctx context.Context, lab *cluster.Lab, router string) (map[netip.Prefix]bool, error) {
	known := map[netip.Prefix]bool{}
	for _, command := range []string{"show ip route bgp json", "show ipv6 route bgp json"} {
		out, err := lab.Vtysh(ctx, router, command)
		if err != nil {
			return nil, err
		}
		var table map[string][]struct{ Installed bool }
		if err := json.Unmarshal([]byte(out), &table); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", router, command, err)
		}
		for text, routes := range table {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", router, command, err)
			}
			for _, r := range routes {
				known[prefix] = known[prefix] || r.Installed
			}
		}
	}
	return known, nil
}
