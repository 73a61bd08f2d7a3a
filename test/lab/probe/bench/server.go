// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// Server counts the datagrams of running measurements. Its zero value is ready;
// ServeTCP and ServeUDP of the same Server belong together.
type Server struct {
	mu       sync.Mutex
	sessions map[uint64]*session
}

// session is one UDP measurement.
type session struct {
	count count
	first time.Time
}

// ServeTCP answers one connection.
func (s *Server) ServeTCP(_ context.Context, conn net.Conn) error {
	reader := bufio.NewReaderSize(conn, 64<<10)
	var req request
	if err := readLine(reader, &req); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	if err := req.validate(); err != nil {
		return err
	}
	switch req.Mode {
	case modeRR:
		return echo(conn, reader, req.Size)
	case modeUp:
		got, err := drain(reader)
		if err != nil {
			return err
		}
		return writeLine(conn, got)
	case modeDown:
		return flood(conn, req.Size, min(req.Time, time.Hour))
	case modeUDP:
		return s.control(conn, reader, req)
	}
	return fmt.Errorf("request %+v: unknown mode", req)
}

func echo(conn net.Conn, reader *bufio.Reader, size int) error {
	message := make([]byte, size)
	for {
		_, err := io.ReadFull(reader, message)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write(message); err != nil {
			return err
		}
	}
}

// control opens a session, and answers with its count when the client has sent
// everything.
func (s *Server) control(conn net.Conn, reader *bufio.Reader, req request) error {
	s.mu.Lock()
	if s.sessions == nil {
		s.sessions = map[uint64]*session{}
	}
	own := &session{}
	s.sessions[req.Session] = own
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.sessions, req.Session)
		s.mu.Unlock()
	}()
	if err := writeLine(conn, count{}); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, reader); err != nil {
		return err
	}
	return writeLine(conn, s.settled(own))
}

// settled waits for datagrams that are still on their way: until none came for
// a tenth of a second.
func (s *Server) settled(own *session) count {
	read := func() count {
		s.mu.Lock()
		defer s.mu.Unlock()
		return own.count
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for before := read(); ; {
		<-ticker.C
		now := read()
		if now == before {
			return now
		}
		before = now
	}
}

// ServeUDP counts datagrams of sessions on a port of all addresses until ctx
// ends.
func (s *Server) ServeUDP(ctx context.Context, port uint16) error {
	var config net.ListenConfig
	socket, err := config.ListenPacket(ctx, "udp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, func() { socket.Close() })()
	if udp, ok := socket.(*net.UDPConn); ok {
		if err := udp.SetReadBuffer(4 << 20); err != nil {
			return err
		}
	}
	const batch = 64
	reader := ipv4.NewPacketConn(socket)
	messages := make([]ipv4.Message, batch)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, 64<<10)}
	}
	for {
		n, err := reader.ReadBatch(messages, 0)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		s.add(messages[:n], time.Now())
	}
}

// add counts a batch that was read at one moment.
func (s *Server) add(messages []ipv4.Message, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, message := range messages {
		if message.N < udpHeader {
			continue
		}
		own := s.sessions[binary.BigEndian.Uint64(message.Buffers[0])]
		if own == nil {
			continue
		}
		if own.first.IsZero() {
			own.first = at
		}
		own.count.Bytes += int64(message.N)
		own.count.Datagrams++
		own.count.Time = at.Sub(own.first)
	}
}

// transient errors of a flood pass by themselves: a full queue, or an answer of
// ICMP to an earlier datagram.
func transient(err error) bool {
	return errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ECONNREFUSED)
}
