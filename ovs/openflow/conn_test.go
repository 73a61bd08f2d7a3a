// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	of "github.com/contiv/libOpenflow/openflow13"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/waymark-net/waymark/ovs/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is the other end of a connection, played by the test.
type peer struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
}

// message lays out a message with a body.
func message(kind uint8, xid uint32, body ...byte) []byte {
	b := []byte{version, kind, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(headerLen+len(body)))
	binary.BigEndian.PutUint32(b[4:], xid)
	return append(b, body...)
}

func (p *peer) send(b ...[]byte) {
	for _, m := range b {
		if _, err := p.nc.Write(m); err != nil {
			p.t.Error(err)
		}
	}
}

// next reads one message and checks its kind.
func (p *peer) next(kind uint8) []byte {
	m, err := readMessage(p.r)
	if err != nil {
		p.t.Error(err)
		return message(kind, 0)
	}
	if k := parseHeader(m).kind; k != kind {
		p.t.Errorf("got a message of type %d, want %d", k, kind)
	}
	return m
}

// serve plays script to the client that body gets.
func serve(t *testing.T, script func(p *peer), body func(t *testing.T, c *conn)) {
	t.Helper()
	serveBy(t, dial, script, func(t *testing.T, c *conn, err error) {
		if err != nil {
			t.Fatal(err)
		}
		body(t, c)
	})
}

// serveBy plays script to the client that open makes.
func serveBy(t *testing.T, open func(context.Context, string) (*conn, error), script func(p *peer), body func(t *testing.T, c *conn, err error)) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = nc.Close() }()
		p := &peer{t: t, nc: nc, r: bufio.NewReader(nc)}
		p.next(of.Type_Hello)
		script(p)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := open(ctx, socket)
	body(t, c, err)
	if c != nil {
		c.close()
	}
	<-done
}

func hello(v uint8, bitmap ...byte) []byte {
	b := message(of.Type_Hello, 1, bitmap...)
	b[0] = v
	return b
}

func TestHandshake(t *testing.T) {
	for _, tc := range []struct {
		name  string
		reply []byte
		want  string
	}{
		{"1.5 without bitmap", hello(6), ""},
		{"1.3 without bitmap", hello(4), "OpenFlow version 4 at most"},
		{"1.0 without bitmap", hello(1), "OpenFlow version 1 at most"},
		{"bitmap with 1.5", hello(6, 0, 1, 0, 8, 0, 0, 0, 0x7e), ""},
		{"bitmap without 1.5", hello(6, 0, 1, 0, 8, 0, 0, 0, 0x32), "does not offer OpenFlow 1.5"},
		{"unknown element first", hello(6, 0, 9, 0, 5, 1, 0, 0, 0, 0, 1, 0, 8, 0, 0, 0, 0x32), "does not offer OpenFlow 1.5"},
		{"element too long", hello(6, 0, 1, 0, 80), "too short"},
		{"element of no length", hello(6, 0, 1, 0, 0), "too short"},
		{"an error", message(of.Type_Error, 1, 0, 0, 0, 0), "hello failed: code 0"},
		{"something else", message(of.Type_PacketIn, 1), "type 10 instead of a hello"},
		{"impossible length", []byte{4, 0, 0, 3, 0, 0, 0, 1}, "message of length 3"},
		{"half a message", []byte{4, 0, 0, 16, 0, 0, 0, 1, 0}, "unexpected EOF"},
	} {
		server, client := net.Pipe()
		go func() {
			defer func() { _ = server.Close() }()
			if _, err := readMessage(server); err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			_, _ = server.Write(tc.reply)
		}()
		c, err := handshake(t.Context(), client, nil)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
		if c != nil {
			c.close()
		}
		_ = client.Close()
	}
}

func TestHandshakeEndsWithContext(t *testing.T) {
	server, client := net.Pipe()
	defer func() { _ = server.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := handshake(ctx, client, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// connectAudited is connect with one learned table.
func connectAudited(ctx context.Context, socket string) (*conn, error) {
	return connect(ctx, socket, only63)
}

// TestConnectMatchesFragments: the daemon forgets the setting when it is
// restarted, so every connection has to make it.
func TestConnectMatchesFragments(t *testing.T) {
	for _, tc := range []struct {
		name    string
		refuse  bool
		wantErr string
	}{
		{"taken", false, ""},
		{"refused", true, "match fragments"},
	} {
		serveBy(t, connectAudited, func(p *peer) {
			p.send(hello(version))
			m := p.next(of.Type_SetConfig)
			xid := parseHeader(m).xid
			if diff := cmp.Diff(message(of.Type_SetConfig, xid, 0, 3, 0, 0), m); diff != "" {
				p.t.Errorf("%s: configuration (-want +got):\n%s", tc.name, diff)
			}
			if tc.refuse {
				p.send(message(of.Type_Error, xid, 0, 10, 0, 0))
			}
			p.send(message(of.Type_BarrierReply, parseHeader(p.next(of.Type_BarrierRequest)).xid))
			if !tc.refuse {
				p.send(message(of.Type_Error, parseHeader(p.next(of.Type_MultiPartRequest)).xid, 0, 1, 0, 2))
			}
		}, func(t *testing.T, c *conn, err error) {
			if tc.wantErr == "" && err != nil || tc.wantErr != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Errorf("%s: error %v, want %q", tc.name, err, tc.wantErr)
			}
		})
	}
}

func TestDialNames(t *testing.T) {
	_, err := dial(t.Context(), filepath.Join(t.TempDir(), "none.mgmt"))
	if err == nil || !strings.Contains(err.Error(), "none.mgmt") {
		t.Errorf("error %v does not name the socket", err)
	}
}

func TestDumpInParts(t *testing.T) {
	part := func(xid uint32, flags byte, flows ...flow.Flow) []byte {
		body := []byte{0, of.MultipartType_Flow, 0, flags, 0, 0, 0, 0}
		for _, f := range flows {
			body = append(body, reported(t, f)...)
		}
		return message(of.Type_MultiPartReply, xid, body...)
	}
	serve(t, func(p *peer) {
		p.send(hello(version))
		xid := parseHeader(p.next(of.Type_MultiPartRequest)).xid
		p.send(message(of.Type_EchoRequest, 99, 'h', 'i'))
		if diff := cmp.Diff(message(of.Type_EchoReply, 99, 'h', 'i'), p.next(of.Type_EchoReply)); diff != "" {
			p.t.Errorf("echo reply (-want +got):\n%s", diff)
		}
		p.send(
			message(of.Type_PortStatus, 0, make([]byte, 72)...),
			part(xid, 1, simple(0, 1, 1), simple(0, 2, 1)),
			part(xid+50, 0, simple(0, 9, 1)),
			part(xid, 1),
			part(xid, 0, simple(0, 3, 1)),
		)
	}, func(t *testing.T, c *conn) {
		raws, err := c.flows(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []uint16
		for _, r := range raws {
			got = append(got, r.priority)
		}
		if diff := cmp.Diff([]uint16{1, 2, 3}, got); diff != "" {
			t.Errorf("priorities (-want +got):\n%s", diff)
		}
	})
}

func TestDumpFails(t *testing.T) {
	for _, tc := range []struct {
		name  string
		reply func(xid uint32) []byte
		want  string
	}{
		{"error", func(x uint32) []byte { return message(of.Type_Error, x, 0, 1, 0, 2) }, "bad request: unknown multipart type"},
		{"other type", func(x uint32) []byte { return message(of.Type_BarrierReply, x) }, "type 21 instead of statistics"},
		{"other statistics", func(x uint32) []byte { return message(of.Type_MultiPartReply, x, 0, 5, 0, 0, 0, 0, 0, 0) }, "of type 5, want 1"},
		{"short", func(x uint32) []byte { return message(of.Type_MultiPartReply, x, 0) }, "too short"},
		{"garbage", func(x uint32) []byte {
			return message(of.Type_MultiPartReply, x, append([]byte{0, 1, 0, 0, 0, 0, 0, 0}, make([]byte, 60)...)...)
		}, "flow description of length 0"},
		{"wrong version", func(x uint32) []byte { return []byte{9, 0, 0, 8, 0, 0, 0, byte(x)} }, "message of version 9"},
		{"end", func(uint32) []byte { return nil }, "EOF"},
	} {
		serve(t, func(p *peer) {
			p.send(hello(version))
			p.send(tc.reply(parseHeader(p.next(of.Type_MultiPartRequest)).xid))
		}, func(t *testing.T, c *conn) {
			if _, err := c.flows(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
			}
		})
	}
}

func TestSilentSwitch(t *testing.T) {
	serve(t, func(p *peer) {
		p.send(hello(version))
		_, _ = io.Copy(io.Discard, p.r)
	}, func(t *testing.T, c *conn) {
		why := errors.New("no answer")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Millisecond, why)
		defer cancel()
		if _, err := c.flows(ctx); !errors.Is(err, why) {
			t.Errorf("error %v", err)
		}
		<-c.lost()
	})
}

// bundleScript reads a bundle of n messages up to its barrier and answers the
// second of them with an error, if asked to.
func bundleScript(p *peer, n int, refuse bool) {
	p.send(hello(version))
	open := parseHeader(p.next(typeBundleControl)).xid
	for i := range n {
		xid := parseHeader(p.next(typeBundleAdd)).xid
		if refuse && i == 1 {
			p.send(message(of.Type_Error, xid, 0, 4, 0, 9))
		}
	}
	p.send(message(typeBundleControl, open, 0, 0, 0, 2, 0, 1, 0, 3))
	p.send(message(of.Type_BarrierReply, parseHeader(p.next(of.Type_BarrierRequest)).xid))
}

// control reads a bundle control message and returns its kind.
func (p *peer) control() uint16 {
	m := p.next(typeBundleControl)
	if len(m) < headerLen+8 {
		p.t.Errorf("control of %d bytes", len(m))
		return 0xffff
	}
	return binary.BigEndian.Uint16(m[headerLen+4:])
}

func bundleOps(t *testing.T) []op {
	t.Helper()
	var ops []op
	for _, f := range []flow.Flow{simple(0, 1, 1), simple(0, 2, 1), simple(0, 3, 1)} {
		ops = append(ops, op{kind: flowsAdd, key: f.Key(), entry: entryOf(t, f), owner: "x"})
	}
	return ops
}

func TestCommitDiscardsWhenRefused(t *testing.T) {
	ops := bundleOps(t)
	serve(t, func(p *peer) {
		bundleScript(p, len(ops), true)
		if k := p.control(); k != of.OFPBCT_DISCARD_REQUEST {
			p.t.Errorf("control %d, want discard", k)
		}
		p.send(message(of.Type_BarrierReply, parseHeader(p.next(of.Type_BarrierRequest)).xid))
	}, func(t *testing.T, c *conn) {
		err := c.commit(t.Context(), ops)
		var named *entryError
		if !errors.As(err, &named) || !errors.Is(err, ErrRefused) || named.op.key != ops[1].key {
			t.Errorf("error %v does not name %v", err, ops[1])
		}
	})
}

func TestCommitNamesWhatTheCommitRefused(t *testing.T) {
	ops := bundleOps(t)
	for _, tc := range []struct {
		name string
		late func(commit uint32) []byte
		key  flow.Key
	}{
		{"named", func(commit uint32) []byte { return message(of.Type_Error, commit-2, 0, 2, 0, 9) }, ops[2].key},
		{"not named", func(commit uint32) []byte {
			return message(of.Type_Error, commit, 0, 17, 0, 13)
		}, flow.Key{}},
	} {
		serve(t, func(p *peer) {
			bundleScript(p, len(ops), false)
			m := p.next(typeBundleControl)
			p.send(tc.late(parseHeader(m).xid))
			p.send(message(of.Type_BarrierReply, parseHeader(p.next(of.Type_BarrierRequest)).xid))
		}, func(t *testing.T, c *conn) {
			err := c.commit(t.Context(), ops)
			if !errors.Is(err, ErrRefused) {
				t.Errorf("%s: error %v", tc.name, err)
			}
			var named *entryError
			if got := errors.As(err, &named); got != (tc.key != flow.Key{}) || got && named.op.key != tc.key {
				t.Errorf("%s: error %v does not name %v", tc.name, err, tc.key)
			}
		})
	}
}
