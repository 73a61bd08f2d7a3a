// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ovn-kubernetes/libovsdb/model"
	"github.com/ovn-kubernetes/libovsdb/ovsdb"
	"k8s.io/klog/v2"
)

// Status is what Apply achieved.
type Status struct {
	// Ports are the desired ports by name, the bridges' own included, as far
	// as they exist.
	Ports map[string]PortStatus
	// Transactions is the number of transactions that were committed.
	Transactions int
}

// Apply brings bridges and ports to the desired state and waits, for as long
// as Params.PortTimeout allows, until every desired port has its OpenFlow port.
// It goes on past a failure and returns what it achieved even then. Nothing is
// sent when nothing differs.
func (c *Client) Apply(ctx context.Context, desired Switch) (Status, error) {
	status := Status{Ports: map[string]PortStatus{}}
	conn, _, err := c.current()
	if err != nil {
		return status, err
	}
	actual, err := readSnapshot(ctx, conn)
	if err != nil {
		return status, err
	}
	logger := klog.FromContext(ctx)
	var errs []error
	for _, ch := range diff(desired, actual) {
		// A change can build on the one before it: a port needs its bridge.
		now, err := readSnapshot(ctx, conn)
		if err == nil {
			err = execute(ctx, conn, now, ch)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", ch, err))
			continue
		}
		status.Transactions++
		logger.Info("Changed the switch", "change", ch.kind.String(), "bridge", ch.bridge.Name, "port", ch.port.Name)
	}
	for _, b := range desired.Bridges {
		names := []string{b.Name}
		for _, p := range b.Ports {
			names = append(names, p.Name)
		}
		for _, name := range names {
			row, err := c.awaitPort(ctx, name)
			if err != nil {
				errs = append(errs, fmt.Errorf("port %s of bridge %s: %w", name, b.Name, err))
			}
			if row.Name != "" {
				status.Ports[name] = row.status(b.Name)
			}
		}
	}
	return status, errors.Join(errs...)
}

func (ch change) String() string {
	switch ch.kind {
	case addPort, delPort, updatePort:
		return fmt.Sprintf("%s %s of bridge %s", ch.kind, ch.port.Name, ch.bridge.Name)
	case addBridge, updateBridge, delBridge:
		return fmt.Sprintf("%s %s", ch.kind, ch.bridge.Name)
	default:
		return ch.kind.String()
	}
}

func execute(ctx context.Context, conn *connection, now snapshot, ch change) error {
	var ops []ovsdb.Operation
	var err error
	switch ch.kind {
	case initDatabase:
		// The library leaves out an empty row, which the server insists on.
		ops = []ovsdb.Operation{{
			Op: ovsdb.OperationInsert, Table: rootTable, Row: ovsdb.Row{"bridges": ovsdb.OvsSet{GoSet: []any{}}},
		}}
	case addBridge:
		ops, err = addBridgeOps(conn, now, ch.bridge)
	case updateBridge:
		ops, err = updateBridgeOps(conn, now, ch.bridge)
	case delBridge:
		ops, err = delBridgeOps(conn, now, ch.bridge.Name)
	case addPort:
		ops, err = addPortOps(conn, now, ch.bridge.Name, interfaceFor(ch.port))
	case updatePort:
		ops, err = updatePortOps(conn, now, ch)
	case delPort:
		ops, err = delPortOps(conn, now, ch.portBridge, ch.port.Name)
	}
	if err != nil {
		return err
	}
	return transact(ctx, conn, ops)
}

// concat runs builders of operations until one fails.
func concat(builders ...func() ([]ovsdb.Operation, error)) ([]ovsdb.Operation, error) {
	var out []ovsdb.Operation
	for _, b := range builders {
		ops, err := b()
		if err != nil {
			return nil, err
		}
		out = append(out, ops...)
	}
	return out, nil
}

func addBridgeOps(conn *connection, now snapshot, b Bridge) ([]ovsdb.Operation, error) {
	root := &rootRow{UUID: now.rootUUID}
	failMode := b.FailMode
	return concat(
		func() ([]ovsdb.Operation, error) {
			local := interfaceFor(Port{Name: b.Name, Type: "internal"})
			local.UUID = "wmiface"
			return conn.Create(&local)
		},
		func() ([]ovsdb.Operation, error) {
			return conn.Create(&portRow{UUID: "wmport", Name: b.Name, Interfaces: []string{"wmiface"}})
		},
		func() ([]ovsdb.Operation, error) {
			return conn.Create(&bridgeRow{
				UUID:         "wmbridge",
				Name:         b.Name,
				DatapathType: b.DatapathType,
				FailMode:     &failMode,
				Protocols:    b.Protocols,
				OtherConfig:  b.OtherConfig,
				ExternalIDs:  map[string]string{OwnerKey: OwnerAgent},
				Ports:        []string{"wmport"},
			})
		},
		func() ([]ovsdb.Operation, error) {
			return conn.Where(root).Mutate(root, model.Mutation{
				Field: &root.Bridges, Mutator: ovsdb.MutateOperationInsert, Value: []string{"wmbridge"},
			})
		},
	)
}

func updateBridgeOps(conn *connection, now snapshot, b Bridge) ([]ovsdb.Operation, error) {
	actual, ok := now.bridges[b.Name]
	if !ok {
		return nil, errors.New("no such bridge")
	}
	failMode := b.FailMode
	row := &bridgeRow{
		UUID:         actual.row.UUID,
		DatapathType: b.DatapathType,
		FailMode:     &failMode,
		Protocols:    b.Protocols,
	}
	return concat(
		func() ([]ovsdb.Operation, error) {
			return conn.Where(row).Update(row, &row.DatapathType, &row.FailMode, &row.Protocols)
		},
		func() ([]ovsdb.Operation, error) {
			mutations := setKeys(&row.ExternalIDs, map[string]string{OwnerKey: OwnerAgent})
			if len(b.OtherConfig) > 0 {
				mutations = append(mutations, setKeys(&row.OtherConfig, b.OtherConfig)...)
			}
			return conn.Where(row).Mutate(row, mutations...)
		},
	)
}

// setKeys sets keys of a map column and leaves its other keys. Inserting alone
// would not replace a value (RFC 7047, section 5.1).
func setKeys(column *map[string]string, values map[string]string) []model.Mutation {
	return []model.Mutation{
		{Field: column, Mutator: ovsdb.MutateOperationDelete, Value: slices.Sorted(maps.Keys(values))},
		{Field: column, Mutator: ovsdb.MutateOperationInsert, Value: values},
	}
}

func delBridgeOps(conn *connection, now snapshot, name string) ([]ovsdb.Operation, error) {
	actual, ok := now.bridges[name]
	if !ok {
		return nil, nil
	}
	root := &rootRow{UUID: now.rootUUID}
	return conn.Where(root).Mutate(root, model.Mutation{
		Field: &root.Bridges, Mutator: ovsdb.MutateOperationDelete, Value: []string{actual.row.UUID},
	})
}

func interfaceFor(p Port) interfaceRow {
	row := interfaceRow{
		Name:        p.Name,
		Type:        p.Type,
		Options:     p.Options,
		ExternalIDs: map[string]string{OwnerKey: OwnerAgent},
	}
	if p.MAC != nil {
		mac := p.MAC.String()
		row.MAC = &mac
	}
	if p.MTU != 0 {
		mtu := p.MTU
		row.MTURequest = &mtu
	}
	return row
}

func addPortOps(conn *connection, now snapshot, bridge string, iface interfaceRow) ([]ovsdb.Operation, error) {
	if other, ok := now.portBridge[iface.Name]; ok {
		return nil, fmt.Errorf("it already belongs to bridge %s", other)
	}
	actual, ok := now.bridges[bridge]
	if !ok {
		return nil, errors.New("no such bridge")
	}
	return insertPortOps(conn, actual.row.UUID, iface)
}

func insertPortOps(conn *connection, bridgeUUID string, iface interfaceRow) ([]ovsdb.Operation, error) {
	br := &bridgeRow{UUID: bridgeUUID}
	iface.UUID = "wmiface"
	return concat(
		func() ([]ovsdb.Operation, error) { return conn.Create(&iface) },
		func() ([]ovsdb.Operation, error) {
			return conn.Create(&portRow{UUID: "wmport", Name: iface.Name, Interfaces: []string{"wmiface"}})
		},
		func() ([]ovsdb.Operation, error) {
			return conn.Where(br).Mutate(br, model.Mutation{
				Field: &br.Ports, Mutator: ovsdb.MutateOperationInsert, Value: []string{"wmport"},
			})
		},
	)
}

func updatePortOps(conn *connection, now snapshot, ch change) ([]ovsdb.Operation, error) {
	actual, ok := now.bridges[ch.bridge.Name]
	if !ok {
		return nil, errors.New("no such bridge")
	}
	ap, ok := actual.ports[ch.port.Name]
	if !ok {
		return nil, errors.New("no such port")
	}
	row := interfaceFor(ch.port)
	row.UUID = ap.iface.UUID
	fields := []any{&row.Options}
	if row.MAC != nil {
		fields = append(fields, &row.MAC)
	}
	if row.MTURequest != nil {
		fields = append(fields, &row.MTURequest)
	}
	return concat(
		func() ([]ovsdb.Operation, error) { return conn.Where(&row).Update(&row, fields...) },
		func() ([]ovsdb.Operation, error) {
			return conn.Where(&row).Mutate(&row, setKeys(&row.ExternalIDs, map[string]string{OwnerKey: OwnerAgent})...)
		},
	)
}

// delPortOps takes the port off its bridge. The database then drops the rows
// of port and interface, which nothing refers to any more.
func delPortOps(conn *connection, now snapshot, bridge, name string) ([]ovsdb.Operation, error) {
	actual, ok := now.bridges[bridge]
	if !ok {
		return nil, nil
	}
	ap, ok := actual.ports[name]
	if !ok {
		return nil, nil
	}
	br := &bridgeRow{UUID: actual.row.UUID}
	return conn.Where(br).Mutate(br, model.Mutation{
		Field: &br.Ports, Mutator: ovsdb.MutateOperationDelete, Value: []string{ap.uuid},
	})
}
