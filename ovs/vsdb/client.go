// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ovn-kubernetes/libovsdb/cache"
	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
	"github.com/ovn-kubernetes/libovsdb/ovsdb"
	"k8s.io/klog/v2"
)

// ErrNotConnected says that there is no connection to the database.
var ErrNotConnected = errors.New("not connected to OVSDB")

// Timing of the connection.
const (
	connectTimeout  = 10 * time.Second
	transactTimeout = 10 * time.Second
	echoInterval    = 5 * time.Second
	echoTimeout     = 5 * time.Second
	backoffMin      = 100 * time.Millisecond
	backoffMax      = 2 * time.Second
	// remindEvery is how often a missing database is spoken of in the log.
	remindEvery = 30 * time.Second

	defaultPortTimeout = 10 * time.Second
)

// Params describe a Client.
type Params struct {
	// Endpoint of the database, "unix:" and a path.
	Endpoint string
	// Notify is called after every change of what matters here, and when the
	// connection came or went. It must not block.
	Notify func(Change)
	// PortTimeout is how long to wait for ovs-vswitchd to make a port; 0 means
	// ten seconds.
	PortTimeout time.Duration
}

// Client is a connection to the database. See the package documentation.
type Client struct {
	params Params

	mu   sync.Mutex
	conn *connection // nil while not connected
	// changed is closed and replaced at every change.
	changed chan struct{}
}

// New returns a client that connects once Run runs.
func New(params Params) *Client {
	if params.PortTimeout == 0 {
		params.PortTimeout = defaultPortTimeout
	}
	return &Client{params: params, changed: make(chan struct{})}
}

// Run keeps the connection until ctx ends and returns its cause.
func (c *Client) Run(ctx context.Context) error {
	logger := klog.FromContext(ctx).WithValues("endpoint", c.params.Endpoint)
	ctx = klog.NewContext(ctx, logger)
	delay := backoffMin
	var spoke time.Time
	for {
		connected, err := c.session(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case connected:
			logger.Info("Lost the connection to OVSDB", "reason", err.Error())
			delay, spoke = backoffMin, time.Time{}
		case time.Since(spoke) > remindEvery:
			logger.Info("Waiting for OVSDB at "+c.params.Endpoint, "reason", err.Error())
			spoke = time.Now()
		}
		if err := sleep(ctx, delay); err != nil {
			return err
		}
		delay = min(2*delay, backoffMax)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// session makes one connection and keeps it until it breaks or ctx ends.
func (c *Client) session(ctx context.Context) (connected bool, err error) {
	dbModel, err := databaseModel()
	if err != nil {
		return false, fmt.Errorf("OVSDB model: %w", err)
	}
	logger := klog.FromContext(ctx).V(4)
	lib, err := client.NewOVSDBClient(dbModel, client.WithEndpoint(c.params.Endpoint), client.WithLogger(&logger))
	if err != nil {
		return false, fmt.Errorf("OVSDB client for %s: %w", c.params.Endpoint, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The library drops this notification if nobody is there to take it.
	broken := make(chan struct{})
	go func() {
		select {
		case <-lib.DisconnectNotify():
			close(broken)
		case <-ctx.Done():
		}
	}()
	defer lib.Close()
	if err := c.start(ctx, lib); err != nil {
		return false, err
	}
	klog.FromContext(ctx).Info("Connected to OVSDB")
	c.setConn(&connection{Client: lib, session: ctx})
	defer c.setConn(nil)
	return true, watch(ctx, lib, broken)
}

// start connects and fills the replica.
func (c *Client) start(ctx context.Context, lib client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := lib.Connect(ctx); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	lib.Cache().AddEventHandler(&cache.EventHandlerFuncs{
		AddFunc:    func(_ string, row model.Model) { c.rowChanged(nil, row) },
		UpdateFunc: func(_ string, old, row model.Model) { c.rowChanged(old, row) },
		DeleteFunc: func(_ string, row model.Model) { c.rowChanged(row, nil) },
	})
	if _, err := lib.Monitor(ctx, lib.NewMonitor(monitored()...)); err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	return nil
}

// watch returns when the connection is broken or the server does not answer.
func watch(ctx context.Context, lib client.Client, broken <-chan struct{}) error {
	ticker := time.NewTicker(echoInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-broken:
			return errors.New("the server closed the connection")
		case <-ticker.C:
			echoCtx, cancel := context.WithTimeout(ctx, echoTimeout)
			err := lib.Echo(echoCtx)
			cancel()
			if err != nil {
				return fmt.Errorf("echo: %w", err)
			}
		}
	}
}

func (c *Client) setConn(conn *connection) {
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	c.wake()
	c.notify(Change{})
}

// rowChanged is told every change of the replica.
func (c *Client) rowChanged(old, row model.Model) {
	c.wake()
	if change, ok := changeOf(old, row); ok {
		c.notify(change)
	}
}

// wake wakes everybody who waits for a change.
func (c *Client) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) notify(change Change) {
	if c.params.Notify != nil {
		c.params.Notify(change)
	}
}

// current returns the connection and a channel that is closed at the next change.
func (c *Client) current() (*connection, <-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil, c.changed, ErrNotConnected
	}
	return c.conn, c.changed, nil
}

// Connected says whether there is a connection.
func (c *Client) Connected() bool {
	_, _, err := c.current()
	return err == nil
}

// awaitPort waits until ovs-vswitchd has made the port or failed to.
func (c *Client) awaitPort(ctx context.Context, name string) (interfaceRow, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.params.PortTimeout,
		fmt.Errorf("ovs-vswitchd did not make it within %v", c.params.PortTimeout))
	defer cancel()
	for {
		conn, changed, err := c.current()
		if err != nil {
			return interfaceRow{}, err
		}
		row := interfaceRow{Name: name}
		switch err := conn.Get(ctx, &row); {
		case errors.Is(err, client.ErrNotFound):
			return interfaceRow{}, errors.New("removed while waiting for its OpenFlow port")
		case err != nil:
			return interfaceRow{}, err
		case row.failed():
			return row, errors.New(row.status("").Error)
		case row.OFPort != nil && *row.OFPort > 0:
			return row, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return row, context.Cause(ctx)
		}
	}
}

// Settle waits until ovs-vswitchd has done all that the database asked of it
// until now, for as long as Params.PortTimeout allows.
func (c *Client) Settle(ctx context.Context) error {
	if err := c.settle(ctx); err != nil {
		return fmt.Errorf("wait for ovs-vswitchd: %w", err)
	}
	return nil
}

func (c *Client) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.params.PortTimeout,
		fmt.Errorf("it did not follow the database within %v", c.params.PortTimeout))
	defer cancel()
	asked := 0
	for {
		conn, changed, err := c.current()
		if err != nil {
			return err
		}
		var roots []rootRow
		if err := conn.List(ctx, &roots); err != nil {
			return err
		}
		if len(roots) != 1 {
			return errors.New("the database was never initialized")
		}
		root := roots[0]
		switch {
		case asked == 0:
			asked = root.NextCfg + 1
			ops, err := conn.Where(&root).Mutate(&root, model.Mutation{
				Field: &root.NextCfg, Mutator: ovsdb.MutateOperationAdd, Value: 1,
			})
			if err != nil {
				return err
			}
			if err := transact(ctx, conn, ops); err != nil {
				return err
			}
		case root.NextCfg >= asked && root.CurCfg >= root.NextCfg:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
