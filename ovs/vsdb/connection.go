// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"context"
	"errors"
	"fmt"

	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
	"github.com/ovn-kubernetes/libovsdb/ovsdb"
)

// connection is the library's client with the context of the session it was
// made for. The library's readers wait for a replica that is being rebuilt,
// which for a client whose connection is gone is for ever; here they end with
// the session.
type connection struct {
	client.Client
	session context.Context
}

// Get is the library's Get, or ErrNotConnected once the session is over.
func (c *connection) Get(ctx context.Context, m model.Model) error {
	return c.read(ctx, func(ctx context.Context) error { return c.Client.Get(ctx, m) })
}

// List is the library's List, or ErrNotConnected once the session is over.
func (c *connection) List(ctx context.Context, result any) error {
	return c.read(ctx, func(ctx context.Context) error { return c.Client.List(ctx, result) })
}

func (c *connection) read(ctx context.Context, read func(context.Context) error) error {
	readCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.session, cancel)()
	err := read(readCtx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case c.session.Err() != nil:
		return ErrNotConnected
	}
	return err
}

// readSnapshot copies the replica.
func readSnapshot(ctx context.Context, conn *connection) (snapshot, error) {
	var (
		roots   []rootRow
		bridges []bridgeRow
		ports   []portRow
		ifaces  []interfaceRow
	)
	for _, list := range []any{&roots, &bridges, &ports, &ifaces} {
		if err := conn.List(ctx, list); err != nil {
			return snapshot{}, fmt.Errorf("read OVSDB replica: %w", err)
		}
	}
	return newSnapshot(roots, bridges, ports, ifaces), nil
}

// transact commits ops and turns every kind of failure into an error. Each
// mutation or update has to have found its row. A transaction under way is not
// abandoned when ctx ends: nobody would know whether it happened.
func transact(ctx context.Context, conn *connection, ops []ovsdb.Operation) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), transactTimeout, errors.New("OVSDB does not answer"))
	defer cancel()
	results, err := conn.Transact(ctx, ops...)
	if err != nil {
		switch {
		case errors.Is(err, client.ErrNotConnected):
			return ErrNotConnected
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		return err
	}
	opErrs, err := ovsdb.CheckOperationResults(results, ops)
	if err != nil {
		errs := make([]error, 0, len(opErrs)+1)
		for _, e := range opErrs {
			errs = append(errs, e)
		}
		return errors.Join(append(errs, err)...)
	}
	for i, op := range ops {
		if (op.Op == ovsdb.OperationMutate || op.Op == ovsdb.OperationUpdate) && results[i].Count == 0 {
			return fmt.Errorf("the row of table %s is gone", op.Table)
		}
	}
	return nil
}
