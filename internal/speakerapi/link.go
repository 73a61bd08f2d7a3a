// SPDX-License-Identifier: Apache-2.0

package speakerapi

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// writeTimeout bounds how long the other end may not read.
	writeTimeout = 10 * time.Second
	// helloTimeout bounds how long it may not say hello.
	helloTimeout = 10 * time.Second
	// maxQueue bounds the messages that wait for the other end to read.
	maxQueue = 64
)

var errSlow = errors.New("the other end does not read")

// link is one end of a connection.
type link struct {
	conn   net.Conn
	reader *bufio.Reader
	wake   chan struct{}

	mu     sync.Mutex
	queue  []message
	closed bool
}

func newLink(conn net.Conn) *link {
	return &link{conn: conn, reader: bufio.NewReader(conn), wake: make(chan struct{}, 1)}
}

// send has a message written. It does not block: when too many wait, the link
// is closed. Routes and sessions replace those that still wait.
func (l *link) send(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, q := range l.queue {
		if m.Routes != nil && q.Routes != nil || m.Sessions != nil && q.Sessions != nil {
			l.queue[i] = m
			return
		}
	}
	if len(l.queue) >= maxQueue {
		l.closeLocked()
		return
	}
	l.queue = append(l.queue, m)
	l.wakeLocked()
}

func (l *link) wakeLocked() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// next takes the message that has waited longest.
func (l *link) next() (m message, some, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) == 0 {
		return message{}, false, l.closed
	}
	m = l.queue[0]
	l.queue = l.queue[1:]
	return m, true, false
}

// write writes what is sent until the link is closed, which it is after the
// first error.
func (l *link) write() error {
	defer l.close()
	for {
		m, some, closed := l.next()
		switch {
		case closed:
			return net.ErrClosed
		case !some:
			<-l.wake
			continue
		}
		line, err := encode(m)
		if err != nil {
			return err
		}
		if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		if _, err := l.conn.Write(line); err != nil {
			return errors.Join(errSlow, err)
		}
	}
}

// greeted reads the other end's hello.
func (l *link) greeted() error {
	if err := l.conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	m, err := decode(l.reader)
	if err == nil {
		err = checkHello(m)
	}
	if err != nil {
		return err
	}
	return l.conn.SetReadDeadline(time.Time{})
}

// read returns the next message of the other end.
func (l *link) read() (message, error) { return decode(l.reader) }

// close ends reading and writing. It may be called more than once.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeLocked()
}

func (l *link) closeLocked() {
	if l.closed {
		return
	}
	l.closed = true
	_ = l.conn.Close() // nothing is left to be written
	l.wakeLocked()
}
