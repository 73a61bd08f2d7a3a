// SPDX-License-Identifier: Apache-2.0

package datagram

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/waymark-net/waymark/test/lab/probe/serve"
)

// Params say what to do.
type Params struct {
	Address  netip.AddrPort
	Interval time.Duration // between two datagrams
	// Sent, if set, is called once, when the first was sent.
	Sent func()
	// Answered, if set, is called when another server answers than before, and
	// for the first.
	Answered func(host string)
}

// Report is what came of a run.
type Report struct {
	Address  netip.AddrPort `json:"address"`
	Sent     int            `json:"sent"`
	Received int            `json:"received"`
	// Refused counts answers that there is nobody.
	Refused int `json:"refused"`
	// Changes begins with the first server that answered.
	Changes []Change `json:"changes"`
	// MaxGap is the longest time without an answer, in milliseconds.
	MaxGap float64 `json:"maxGapMs"`
}

// Change is the first answer of a server after one of another.
type Change struct {
	At     time.Time      `json:"at"`
	Host   string         `json:"host"`
	Client netip.AddrPort `json:"client"` // our address as the server saw it
}

// Run sends until ctx ends. It fails when there is no socket to send from; that
// nobody answers is in the report.
func Run(ctx context.Context, p Params) (Report, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.Address))
	if err != nil {
		return Report{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	sent := make(chan int, 1)
	go func() { sent <- send(ctx, conn, p) }()
	r, err := read(conn, p)
	r.Sent = <-sent
	return r, err
}

// send returns how many datagrams it sent until ctx ended.
func send(ctx context.Context, conn *net.UDPConn, p Params) int {
	ticker := time.NewTicker(p.Interval)
	defer ticker.Stop()
	for sent := 0; ; {
		// An error says what came back for an earlier one, or that there is no
		// way now: the reader counts what is missing.
		if _, err := conn.Write([]byte("?")); err == nil {
			if sent++; sent == 1 && p.Sent != nil {
				p.Sent()
			}
		}
		select {
		case <-ctx.Done():
			return sent
		case <-ticker.C:
		}
	}
}

// read gathers answers until the socket's deadline.
func read(conn *net.UDPConn, p Params) (Report, error) {
	r := Report{Address: p.Address}
	buffer := make([]byte, 2048)
	last := time.Now()
	observe := func() time.Time {
		now := time.Now()
		r.MaxGap = max(r.MaxGap, float64(now.Sub(last).Microseconds())/1000)
		return now
	}
	for {
		n, err := conn.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			observe()
			return r, nil
		}
		if err != nil {
			r.Refused++ // what the socket says of earlier datagrams
			continue
		}
		var hello serve.Hello
		line, _, _ := bytes.Cut(buffer[:n], []byte("\n"))
		if err := json.Unmarshal(line, &hello); err != nil {
			return r, err
		}
		last = observe()
		r.Received++
		if c := len(r.Changes); c == 0 || r.Changes[c-1].Host != hello.Host {
			r.Changes = append(r.Changes, Change{At: last, Host: hello.Host, Client: hello.Client})
			if p.Answered != nil {
				p.Answered(hello.Host)
			}
		}
	}
}
