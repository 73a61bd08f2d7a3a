// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/rpc2"
	"github.com/go-logr/logr"
	"github.com/ovn-kubernetes/libovsdb/database"
	"github.com/ovn-kubernetes/libovsdb/database/inmemory"
	"github.com/ovn-kubernetes/libovsdb/model"
	"github.com/ovn-kubernetes/libovsdb/ovsdb"
	"github.com/ovn-kubernetes/libovsdb/server"
)

// fakeServer is libovsdb's in-memory server on a Unix socket. It can be
// stopped and started again, with its content or with none.
type fakeServer struct {
	t      *testing.T
	path   string
	model  model.DatabaseModel
	db     database.Database
	server *server.OvsdbServer
	served chan error

	mu    sync.Mutex
	conns []*rpc2.Client
}

func newFakeServer(t *testing.T) *fakeServer {
	t.Helper()
	text, err := os.ReadFile("testdata/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var schema ovsdb.DatabaseSchema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	clientModel, err := databaseModel()
	if err != nil {
		t.Fatal(err)
	}
	dbModel, errs := model.NewDatabaseModel(schema, clientModel)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	f := &fakeServer{t: t, path: filepath.Join(t.TempDir(), "db.sock"), model: dbModel}
	f.wipe()
	return f
}

// wipe forgets the content; the server must not be running.
func (f *fakeServer) wipe() {
	logger := logr.Discard()
	f.db = inmemory.NewDatabase(map[string]model.ClientDBModel{databaseName: f.model.Client()}, &logger)
}

func (f *fakeServer) start() {
	f.t.Helper()
	logger := logr.Discard()
	var err error
	if f.server, err = server.NewOvsdbServer(f.db, &logger, f.model); err != nil {
		f.t.Fatal(err)
	}
	f.server.OnConnect(func(c *rpc2.Client) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.conns = append(f.conns, c)
	})
	f.served = make(chan error, 1)
	go func() { f.served <- f.server.Serve("unix", f.path) }()
	waitFor(f.t, "the server to listen", f.server.Ready)
}

// stop closes the listener and every connection, as the end of the process would.
func (f *fakeServer) stop() {
	f.server.Close()
	<-f.served
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_ = c.Close() // it may be closed already
	}
	f.conns = nil
}

// fakeVswitchd gives ports their OpenFlow port numbers, as ovs-vswitchd does,
// and refuses devices named "missing".
type fakeVswitchd struct {
	client *Client
	mu     sync.Mutex
	next   int
}

// awaitConnection must come before any change of the database: the in-memory
// server tells a client that begins to monitor neither in the first answer nor
// later of a transaction that it commits at that moment.
func (v *fakeVswitchd) awaitConnection(t *testing.T) {
	t.Helper()
	waitFor(t, "the connection of ovs-vswitchd", v.client.Connected)
}

// startVswitchd attaches one to the server until the test ends.
func startVswitchd(t *testing.T, endpoint string) *fakeVswitchd {
	t.Helper()
	c := New(Params{Endpoint: endpoint})
	v := &fakeVswitchd{client: c}
	runClient(t, c)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		for {
			conn, changed, err := c.current()
			if err == nil {
				v.assign(t, conn)
			}
			select {
			case <-stop:
				return
			case <-changed:
			}
		}
	}()
	v.awaitConnection(t)
	return v
}

func (v *fakeVswitchd) assign(t *testing.T, conn *connection) {
	s, err := readSnapshot(t.Context(), conn)
	if err != nil {
		return
	}
	defer v.follow(t, conn)
	for name, b := range s.bridges {
		for _, p := range b.ports {
			if p.iface.OFPort != nil {
				continue
			}
			v.mu.Lock()
			v.next++
			n, ifindex := v.next, v.next+100
			v.mu.Unlock()
			row := p.iface
			switch row.Name {
			case "missing":
				n = -1
				reason := "could not open network device missing (No such device)"
				row.Error = &reason
			case "slow":
				continue
			case name:
				n = 65534
			}
			row.OFPort, row.Ifindex = &n, &ifindex
			ops, err := conn.Where(&row).Update(&row, &row.OFPort, &row.Error, &row.Ifindex)
			if err == nil {
				// The port may have been removed meanwhile.
				_ = transact(t.Context(), conn, ops)
			}
		}
	}
}

// follow says that all was done.
func (v *fakeVswitchd) follow(t *testing.T, conn *connection) {
	var roots []rootRow
	if err := conn.List(t.Context(), &roots); err != nil || len(roots) != 1 || roots[0].CurCfg >= roots[0].NextCfg {
		return
	}
	root := roots[0]
	root.CurCfg = root.NextCfg
	ops, err := conn.Where(&root).Update(&root, &root.CurCfg)
	if err == nil {
		_ = transact(t.Context(), conn, ops)
	}
}

// runClient runs c until the test ends.
func runClient(t *testing.T, c *Client) {
	t.Helper()
	done := make(chan struct{})
	ctx := t.Context() // cancelled before cleanups run
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	t.Cleanup(func() { <-done })
}

// waitFor polls a condition of another goroutine with a generous deadline.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		case <-tick.C:
		}
	}
}

func (f *fakeServer) endpoint() string { return fmt.Sprintf("unix:%s", f.path) }
