// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Params say what the client does.
type Params struct {
	Address  netip.AddrPort
	Interval time.Duration // between two records of a side
	Size     int           // bytes of data of a record
	Stall    time.Duration // a pause without data this long counts as a stall
	// Silence ends the run as broken when nothing came for so long.
	Silence time.Duration
	Connect time.Duration // how long to wait for the connection
	// Connected, if set, is called once, when the first data has come back.
	Connected func()
}

// Side is what one side saw. Times are milliseconds.
type Side struct {
	SentBytes     int64   `json:"sentBytes"`
	ReceivedBytes int64   `json:"receivedBytes"`
	Records       uint64  `json:"records"` // received in order and unchanged
	Stalls        int     `json:"stalls"`  // pauses in what was received, of the given length or more
	MaxGap        float64 `json:"maxGapMs"`
}

// Report is what came of a run.
type Report struct {
	Broken  bool    `json:"broken"` // the connection ended before the client ended it
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
	Client  Side    `json:"client"`
	Server  Side    `json:"server"` // zero in a broken run
}

// pace is the client's start record.
type pace struct {
	Interval time.Duration `json:"interval"`
	Size     int           `json:"size"`
	Stall    time.Duration `json:"stall"`
	Silence  time.Duration `json:"silence"`
}

// peer is one side of a connection.
type peer struct {
	conn   net.Conn
	reader *bufio.Reader
	pace   pace
	begun  func()     // called when the first data is there; may be nil
	mu     sync.Mutex // guards side: the writer counts in it as well
	side   Side
}

// Run keeps a connection busy until ctx ends, ends it in order, and reports. A
// connection that cannot be made or breaks is in the report, not an error.
func Run(ctx context.Context, params Params) Report {
	start := time.Now()
	report, err := run(ctx, params)
	report.Seconds = time.Since(start).Seconds()
	if err != nil {
		report.Broken, report.Error = true, err.Error()
	}
	return report
}

func run(ctx context.Context, params Params) (Report, error) {
	dialer := net.Dialer{Timeout: params.Connect}
	conn, err := dialer.DialContext(ctx, "tcp", params.Address.String())
	if err != nil {
		return Report{}, err
	}
	defer conn.Close()
	p := &peer{conn: conn, reader: bufio.NewReader(conn), begun: params.Connected, pace: pace{
		Interval: params.Interval, Size: params.Size, Stall: params.Stall, Silence: params.Silence,
	}}
	begin, err := json.Marshal(p.pace)
	if err != nil {
		return Report{}, err
	}
	if _, err := conn.Write(appendRecord(nil, record{kind: kindStart, data: begin})); err != nil {
		return Report{}, err
	}
	var server Side
	readErr := make(chan error, 1)
	reading, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer stop() // a broken connection ends the writer
		end, err := p.read()
		if err == nil {
			err = json.Unmarshal(end, &server)
		}
		readErr <- err
	}()
	writeErr := p.write(reading)
	if writeErr == nil && ctx.Err() != nil {
		_, writeErr = conn.Write(appendRecord(nil, record{kind: kindEnd}))
	}
	if writeErr != nil {
		conn.Close()
	}
	err = errors.Join(writeErr, <-readErr)
	if err == nil && ctx.Err() == nil {
		err = errors.New("the server ended the stream")
	}
	return Report{Client: p.seen(), Server: server}, err
}

// Serve is the server's side of one connection.
func Serve(ctx context.Context, conn net.Conn) error {
	p := &peer{conn: conn, reader: bufio.NewReader(conn)}
	first, err := readRecord(p.reader)
	if err != nil {
		return err
	}
	if first.kind != kindStart {
		return fmt.Errorf("%w: a record of kind %q where the start is due", errCorrupt, first.kind)
	}
	if err := json.Unmarshal(first.data, &p.pace); err != nil {
		return fmt.Errorf("start record: %w", err)
	}
	if p.pace.Size < 0 || p.pace.Size > maxData || p.pace.Interval <= 0 || p.pace.Silence <= 0 {
		return fmt.Errorf("%w: pace %+v", errCorrupt, p.pace)
	}
	writing, stop := context.WithCancel(ctx)
	defer stop()
	written := make(chan error, 1)
	go func() { written <- p.write(writing) }()
	_, err = p.read()
	stop()
	if err != nil {
		conn.Close()
		<-written
		return err
	}
	if err := <-written; err != nil {
		return err
	}
	end, err := json.Marshal(p.seen())
	if err != nil {
		return err
	}
	_, err = conn.Write(appendRecord(nil, record{kind: kindEnd, data: end}))
	return err
}

func (p *peer) seen() Side {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.side
}

// write sends data at the pace until ctx ends, always whole records.
func (p *peer) write(ctx context.Context) error {
	ticker := time.NewTicker(p.pace.Interval)
	defer ticker.Stop()
	data := make([]byte, p.pace.Size)
	var buffer []byte
	for seq := uint64(0); ; seq++ {
		fill(data, seq)
		buffer = appendRecord(buffer[:0], record{kind: kindData, seq: seq, data: data})
		if err := p.conn.SetWriteDeadline(time.Now().Add(p.pace.Silence)); err != nil {
			return err
		}
		n, err := p.conn.Write(buffer)
		p.mu.Lock()
		p.side.SentBytes += int64(n)
		p.mu.Unlock()
		if err != nil {
			return fmt.Errorf("after %d records: %w", seq, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// read checks data until the end record and returns what that holds.
func (p *peer) read() ([]byte, error) {
	last := time.Now()
	for due := uint64(0); ; due++ {
		if err := p.conn.SetReadDeadline(time.Now().Add(p.pace.Silence)); err != nil {
			return nil, err
		}
		r, err := readRecord(p.reader)
		gap := time.Since(last)
		last = last.Add(gap)
		p.observe(gap, r, err)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("nothing came for %s after %d records: %w", p.pace.Silence, due, err)
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("after %d records: %w", due, io.ErrUnexpectedEOF)
		case err != nil:
			return nil, fmt.Errorf("after %d records: %w", due, err)
		case r.kind == kindEnd:
			return r.data, nil
		case r.kind != kindData:
			return nil, fmt.Errorf("%w: a record of kind %q", errCorrupt, r.kind)
		}
		if err := verify(r, due); err != nil {
			return nil, err
		}
		if due == 0 && p.begun != nil {
			p.begun()
		}
	}
}

// observe counts one attempt to read a record.
func (p *peer) observe(gap time.Duration, r record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.side.MaxGap = max(p.side.MaxGap, float64(gap.Microseconds())/1000)
	if gap >= p.pace.Stall {
		p.side.Stalls++
	}
	if err == nil && r.kind == kindData {
		p.side.Records++
		p.side.ReceivedBytes += int64(headerSize + len(r.data))
	}
}
