// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/contiv/libOpenflow/common"
	of "github.com/contiv/libOpenflow/openflow13"
)

// conn is one OpenFlow 1.5 connection. Calls are made by one goroutine at a
// time; a second one reads, answers echo requests and hands the messages that
// belong to the current call to it.
type conn struct {
	nc net.Conn

	wmu sync.Mutex
	w   *bufio.Writer

	mu      sync.Mutex
	current *call
	err     error

	done chan struct{}
	xid  uint32
	// async gets the messages that answer nothing; it may be nil.
	async func(msg []byte)
	// changed holds a token when somebody else has changed flows; nil if nobody
	// asked to be told.
	changed chan struct{}
}

// call collects the messages whose transaction number is in [first, last].
type call struct {
	first, last uint32
	messages    [][]byte
	notify      chan struct{}
}

// dial connects to the socket and agrees on OpenFlow 1.5.
func dial(ctx context.Context, socket string) (*conn, error) {
	return dialAsync(ctx, socket, nil)
}

// dialAsync is dial with a receiver of messages that answer nothing, which the
// reader calls.
func dialAsync(ctx context.Context, socket string, async func(msg []byte)) (*conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connect to the switch: %w", err)
	}
	c, err := handshake(ctx, nc, async)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("greet the switch at %s: %w", socket, err), nc.Close())
	}
	return c, nil
}

// connect is dial, has the switch match first fragments like whole packets, and has
// it say when somebody else changes flows that are not in a learned table. A switch
// that is new, or whose daemon was restarted, does not match like that (see
// matchFragments).
func connect(ctx context.Context, socket string, learned func(table uint8) bool) (*conn, error) {
	changed := make(chan struct{}, 1)
	c, err := dialAsync(ctx, socket, changesOf(changed, learned))
	if err != nil {
		return nil, err
	}
	c.changed = changed
	refused, err := c.untilBarrier(ctx, c.next(), []builder{matchFragments, plainMessage(of.Type_BarrierRequest)})
	if err == nil && refused != nil {
		err = refused
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("have the switch at %s match fragments: %w", socket, err)
	}
	if err := c.monitor(ctx); err != nil {
		c.close()
		return nil, fmt.Errorf("have the switch at %s say what others change: %w", socket, err)
	}
	return c, nil
}

// handshake exchanges hellos on nc and starts the reader. The reader ends when
// nc is closed.
func handshake(ctx context.Context, nc net.Conn, async func(msg []byte)) (*conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	hello, err := helloMessage(1)
	if err != nil {
		return nil, err
	}
	if _, err := nc.Write(hello); err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	r := bufio.NewReaderSize(nc, 1<<16)
	msg, err := readMessage(r)
	if err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	if err := checkHello(msg); err != nil {
		return nil, err
	}
	c := &conn{nc: nc, w: bufio.NewWriterSize(nc, 1<<16), done: make(chan struct{}), xid: 1, async: async}
	go c.read(r)
	return c, nil
}

// checkHello finds out whether the peer speaks version 1.5 (OpenFlow 1.5.1,
// 6.3.1 and 7.6.1).
func checkHello(msg []byte) error {
	h := parseHeader(msg)
	if h.kind == of.Type_Error {
		return parseError(msg)
	}
	if h.kind != of.Type_Hello {
		return fmt.Errorf("message of type %d instead of a hello", h.kind)
	}
	for b := msg[headerLen:]; len(b) >= 4; {
		kind, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			return errShort
		}
		if kind == common.HelloElemType_VersionBitmap && n >= 8 {
			if binary.BigEndian.Uint32(b[4:])&(1<<version) == 0 {
				return errors.New("the switch does not offer OpenFlow 1.5")
			}
			return nil
		}
		b = b[min(pad8(n), len(b)):]
	}
	if h.version < version {
		return fmt.Errorf("the switch offers OpenFlow version %d at most, want %d (1.5)", h.version, version)
	}
	return nil
}

// readMessage reads one message, whatever its version.
func readMessage(r io.Reader) ([]byte, error) {
	var head [headerLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := parseHeader(head[:]).length
	if n < headerLen {
		return nil, fmt.Errorf("message of length %d", n)
	}
	msg := make([]byte, n)
	copy(msg, head[:])
	if _, err := io.ReadFull(r, msg[headerLen:]); err != nil {
		return nil, err
	}
	return msg, nil
}

// read runs until the connection fails or is closed.
func (c *conn) read(r io.Reader) {
	for {
		msg, err := readMessage(r)
		if err == nil {
			err = c.dispatch(msg)
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

func (c *conn) dispatch(msg []byte) error {
	h := parseHeader(msg)
	if h.version != version {
		return fmt.Errorf("message of version %d", h.version)
	}
	if h.kind == of.Type_EchoRequest {
		msg[1] = of.Type_EchoReply
		return c.write([][]byte{msg})
	}
	if !c.answer(h.xid, msg) && c.async != nil {
		c.async(msg)
	}
	return nil
}

// answer hands a message to the current call if it belongs to it.
func (c *conn) answer(xid uint32, msg []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.current
	if cl == nil || xid < cl.first || cl.last < xid {
		return false
	}
	cl.messages = append(cl.messages, msg)
	select {
	case cl.notify <- struct{}{}:
	default:
	}
	return true
}

// fail ends the connection; the first error stays.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	_ = c.nc.Close()
	close(c.done)
}

var errClosed = errors.New("connection closed")

// close ends the connection and its reader.
func (c *conn) close() { c.fail(errClosed) }

// changes has a token when somebody else has changed flows.
func (c *conn) changes() <-chan struct{} { return c.changed }

// lost is closed when the connection has ended.
func (c *conn) lost() <-chan struct{} { return c.done }

func (c *conn) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *conn) write(messages [][]byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	for _, m := range messages {
		if _, err := c.w.Write(m); err != nil {
			return err
		}
	}
	return c.w.Flush()
}

// messageError says that the message with this index could not be laid out.
// Nothing was sent.
type messageError struct {
	index int
	err   error
}

func (e *messageError) Error() string { return e.err.Error() }
func (e *messageError) Unwrap() error { return e.err }

// handler gets every answer with the number of the message it is for, counted
// from the first message of the call, and says whether it was the last one.
type handler func(i int, msg []byte) (last bool, err error)

// next is the transaction number of the first message of the next call.
func (c *conn) next() uint32 { return c.xid + 1 }

// exchange sends messages and gives their answers to handle. With from, a
// number that next returned before, answers to all messages since then count.
// When ctx ends first, so does the connection, because what the switch made of
// the messages is unknown.
func (c *conn) exchange(ctx context.Context, from uint32, builders []builder, handle handler) error {
	first := c.next()
	messages := make([][]byte, len(builders))
	for i, b := range builders {
		m, err := b(first + uint32(i))
		if err != nil {
			return &messageError{index: i, err: err}
		}
		messages[i] = m
	}
	if c.xid += uint32(len(builders)); c.xid > 1<<31 {
		c.xid = 1
	}
	cl := &call{first: from, last: first + uint32(len(builders)) - 1, notify: make(chan struct{}, 1)}
	c.mu.Lock()
	c.current = cl
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.current = nil
		c.mu.Unlock()
	}()
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	defer stop()
	if err := c.write(messages); err != nil {
		c.fail(err)
		return c.cause()
	}
	return c.collect(cl, handle)
}

// collect hands the answers over. Those that arrived before the connection
// ended still count.
func (c *conn) collect(cl *call, handle handler) error {
	for ended := false; ; {
		select {
		case <-cl.notify:
		case <-c.done:
			ended = true
		}
		c.mu.Lock()
		batch, cause := cl.messages, c.err
		cl.messages = nil
		c.mu.Unlock()
		for _, m := range batch {
			last, err := handle(int(parseHeader(m).xid-cl.first), m)
			if err != nil || last {
				return err
			}
		}
		if ended {
			return cause
		}
	}
}
