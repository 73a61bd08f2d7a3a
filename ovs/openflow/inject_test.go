// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"bufio"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	of "github.com/contiv/libOpenflow/openflow13"

	"github.com/waymark-net/waymark/ovs/flow"
)

// TestInjectKeepsItsConnection plays a switch that takes any number of
// connections.
func TestInjectKeepsItsConnection(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	connections, packets := 0, 0
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			connections++
			p := &peer{t: t, nc: nc, r: bufio.NewReader(nc)}
			p.next(of.Type_Hello)
			p.send(hello(version))
			for {
				m, err := readMessage(p.r)
				if err != nil {
					break
				}
				switch h := parseHeader(m); h.kind {
				case of.Type_PacketOut:
					packets++
				case of.Type_BarrierRequest:
					p.send(message(of.Type_BarrierReply, h.xid))
				}
			}
			_ = nc.Close()
		}
	})
	target := New(Params{Socket: socket})
	const all = 20
	for range all {
		if err := target.Inject(t.Context(), flow.PortController, make([]byte, 60), []flow.Action{flow.Output{Port: 1}}); err != nil {
			t.Error(err)
		}
	}
	_ = l.Close()
	serving.Wait()
	if packets != all || connections >= all { // a slow machine may need some
		t.Errorf("%d packets by %d connections, want %d by fewer", packets, connections, all)
	}
}

func TestIdleConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i idleConn
		open := func() (c *conn, end func()) {
			ours, theirs := net.Pipe()
			go func() {
				p := &peer{t: t, nc: theirs, r: bufio.NewReader(theirs)}
				p.next(of.Type_Hello)
				p.send(hello(version))
			}()
			c, err := handshake(t.Context(), ours, nil)
			if err != nil {
				t.Fatal(err)
			}
			return c, func() { _ = theirs.Close() }
		}
		lost := func(c *conn) bool {
			select {
			case <-c.lost():
				return true
			default:
				return false
			}
		}
		if i.take() != nil {
			t.Error("there is a connection at first")
		}
		first, _ := open()
		second, _ := open()
		i.keep(first)
		i.keep(second)
		if lost(first) || !lost(second) {
			t.Errorf("of two connections, first ended %v, second ended %v", lost(first), lost(second))
		}
		for range 3 {
			time.Sleep(keepIdle - 1)
			if i.take() != first || i.take() != nil {
				t.Fatal("the connection is not there once")
			}
			time.Sleep(keepIdle)
			i.keep(first)
		}
		time.Sleep(keepIdle)
		synctest.Wait()
		if !lost(first) || i.take() != nil {
			t.Error("a connection that nobody uses does not end")
		}
		third, end := open()
		i.keep(third)
		end()
		synctest.Wait()
		if i.take() != nil {
			t.Error("a connection is used that the switch has ended")
		}
	})
}
