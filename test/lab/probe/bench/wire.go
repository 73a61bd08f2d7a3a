// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// Modes of a request.
const (
	modeRR   = "rr"
	modeUp   = "up"   // TCP, the client sends
	modeDown = "down" // TCP, the server sends
	modeUDP  = "udp"  // UDP, the client sends
)

// maxSize bounds messages and writes.
const maxSize = 1 << 20

// request is the first line of a connection.
type request struct {
	Mode    string        `json:"mode"`
	Size    int           `json:"size"`              // bytes of a message, a write or a datagram
	Time    time.Duration `json:"time,omitempty"`    // how long the server sends
	Session uint64        `json:"session,omitempty"` // of UDP
}

func (r request) validate() error {
	if r.Size < 1 || r.Size > maxSize {
		return fmt.Errorf("request %+v: size must be 1 to %d", r, maxSize)
	}
	return nil
}

// count is what a receiver answers at the end.
type count struct {
	Bytes     int64         `json:"bytes"`
	Datagrams int64         `json:"datagrams,omitempty"`
	Time      time.Duration `json:"time"` // from the first to the last of them
}

// dial connects and sends the request.
func dial(ctx context.Context, address netip.AddrPort, req request) (net.Conn, *bufio.Reader, error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address.String())
	if err != nil {
		return nil, nil, err
	}
	if err := writeLine(conn, req); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, bufio.NewReader(conn), nil
}

func writeLine(w io.Writer, value any) error {
	line, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

func readLine(r *bufio.Reader, value any) error {
	line, err := r.ReadSlice('\n') // no longer than the reader's buffer
	if err != nil {
		return err
	}
	return json.Unmarshal(line, value)
}
