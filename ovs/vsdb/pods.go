// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
	"github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// PodPort is the port of a Pod's interface: the host end of its veth pair.
type PodPort struct {
	Name string
	// ExternalIDs are kept with the port and come back from Ports. OwnerKey is
	// added to them.
	ExternalIDs map[string]string
}

// AddPort puts a Pod's port on the integration bridge and waits until it has
// its OpenFlow port number, which it returns. A port that exists is kept; its
// external IDs are replaced where they differ. When the port cannot be made,
// the error holds ovs-vswitchd's reason and nothing is left behind.
func (c *Client) AddPort(ctx context.Context, p PodPort) (uint32, error) {
	ofport, err := c.addPort(ctx, p)
	if err != nil {
		return 0, fmt.Errorf("add port %s to bridge %s: %w", p.Name, IntegrationBridge, err)
	}
	return ofport, nil
}

func (c *Client) addPort(ctx context.Context, p PodPort) (uint32, error) {
	conn, _, err := c.current()
	if err != nil {
		return 0, err
	}
	want := interfaceRow{Name: p.Name, ExternalIDs: maps.Clone(p.ExternalIDs)}
	if want.ExternalIDs == nil {
		want.ExternalIDs = map[string]string{}
	}
	want.ExternalIDs[OwnerKey] = OwnerPod

	existing := interfaceRow{Name: p.Name}
	switch err := conn.Get(ctx, &existing); {
	case errors.Is(err, client.ErrNotFound):
	case err != nil:
		return 0, err
	case existing.ExternalIDs[OwnerKey] != OwnerPod:
		return 0, errors.New("the name belongs to a port that is not a Pod's")
	case existing.failed():
		if err := c.DelPort(ctx, p.Name); err != nil {
			return 0, err
		}
	default:
		if !maps.Equal(existing.ExternalIDs, want.ExternalIDs) {
			existing.ExternalIDs = want.ExternalIDs
			ops, err := conn.Where(&existing).Update(&existing, &existing.ExternalIDs)
			if err != nil {
				return 0, err
			}
			if err := transact(ctx, conn, ops); err != nil {
				return 0, err
			}
		}
		row, err := c.awaitPort(ctx, p.Name)
		return row.status("").OFPort, err
	}

	br := bridgeRow{Name: IntegrationBridge}
	if err := conn.Get(ctx, &br); err != nil {
		return 0, fmt.Errorf("bridge %s: %w", IntegrationBridge, err)
	}
	ops, err := insertPortOps(conn, br.UUID, want)
	if err != nil {
		return 0, err
	}
	if err := transact(ctx, conn, ops); err != nil {
		return 0, err
	}
	row, err := c.awaitPort(ctx, p.Name)
	if err != nil {
		// The caller's context may be what ended the wait.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.params.PortTimeout)
		defer cancel()
		return 0, errors.Join(err, c.DelPort(undo, p.Name))
	}
	return row.status("").OFPort, nil
}

// DelPort removes a Pod's port from the integration bridge. It succeeds when
// there is none, and refuses to remove a port that is not a Pod's.
func (c *Client) DelPort(ctx context.Context, name string) error {
	if err := c.delPort(ctx, name); err != nil {
		return fmt.Errorf("remove port %s from bridge %s: %w", name, IntegrationBridge, err)
	}
	return nil
}

func (c *Client) delPort(ctx context.Context, name string) error {
	conn, _, err := c.current()
	if err != nil {
		return err
	}
	iface, port := interfaceRow{Name: name}, portRow{Name: name}
	for _, row := range []any{&iface, &port} {
		switch err := conn.Get(ctx, row); {
		case errors.Is(err, client.ErrNotFound):
			return nil
		case err != nil:
			return err
		}
	}
	if iface.ExternalIDs[OwnerKey] != OwnerPod {
		return errors.New("it is not a Pod's port")
	}
	br := bridgeRow{Name: IntegrationBridge}
	switch err := conn.Get(ctx, &br); {
	case errors.Is(err, client.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	ops, err := conn.Where(&br).Mutate(&br, model.Mutation{
		Field: &br.Ports, Mutator: ovsdb.MutateOperationDelete, Value: []string{port.UUID},
	})
	if err != nil {
		return err
	}
	return transact(ctx, conn, ops)
}

// Ports lists the Pod ports of the integration bridge, by name.
func (c *Client) Ports(ctx context.Context) ([]PortStatus, error) {
	conn, _, err := c.current()
	if err != nil {
		return nil, fmt.Errorf("list Pod ports: %w", err)
	}
	s, err := readSnapshot(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("list Pod ports: %w", err)
	}
	var out []PortStatus
	if br, ok := s.bridges[IntegrationBridge]; ok {
		for _, p := range br.ports {
			if p.iface.ExternalIDs[OwnerKey] == OwnerPod {
				out = append(out, p.iface.status(IntegrationBridge))
			}
		}
	}
	slices.SortFunc(out, func(a, b PortStatus) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
