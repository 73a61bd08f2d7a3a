// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
)

// RoundTripParams say what RoundTrips does.
type RoundTripParams struct {
	Address netip.AddrPort
	Size    int // bytes of a message each way
	Time    time.Duration
}

// RoundTripReport is what came of it. Latencies are microseconds.
type RoundTripReport struct {
	Transactions int     `json:"transactions"`
	Seconds      float64 `json:"seconds"`
	PerSecond    float64 `json:"perSecond"`
	P50          float64 `json:"p50Us"`
	P99          float64 `json:"p99Us"`
	Max          float64 `json:"maxUs"`
}

// RoundTrips sends a message and waits for its echo, over and over, on one TCP
// connection.
func RoundTrips(ctx context.Context, params RoundTripParams) (RoundTripReport, error) {
	req := request{Mode: modeRR, Size: params.Size}
	if err := req.validate(); err != nil {
		return RoundTripReport{}, err
	}
	conn, reader, err := dial(ctx, params.Address, req)
	if err != nil {
		return RoundTripReport{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(params.Time + 30*time.Second)); err != nil {
		return RoundTripReport{}, err
	}
	message, answer := make([]byte, params.Size), make([]byte, params.Size)
	var took []time.Duration
	start := time.Now()
	for at := start; at.Sub(start) < params.Time; {
		if _, err := conn.Write(message); err != nil {
			return RoundTripReport{}, err
		}
		if _, err := io.ReadFull(reader, answer); err != nil {
			return RoundTripReport{}, err
		}
		now := time.Now()
		took = append(took, now.Sub(at))
		at = now
	}
	return summarize(took, time.Since(start)), nil
}

func summarize(took []time.Duration, total time.Duration) RoundTripReport {
	report := RoundTripReport{Transactions: len(took), Seconds: total.Seconds()}
	if len(took) == 0 {
		return report
	}
	slices.Sort(took)
	at := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))].Nanoseconds()) / 1000
	}
	report.PerSecond = float64(len(took)) / total.Seconds()
	report.P50, report.P99, report.Max = at(0.5), at(0.99), at(1)
	return report
}

// ThroughputParams say what Throughput does.
type ThroughputParams struct {
	Address netip.AddrPort
	UDP     bool
	// Reverse has the server send; not with UDP.
	Reverse bool
	Streams int // TCP connections at once
	Size    int // bytes of a write, or of a datagram's payload
	Time    time.Duration
	// Rate limits what is sent over UDP, in bits a second; 0 is no limit.
	Rate float64
}

// ThroughputReport is what the receiver got.
type ThroughputReport struct {
	Bytes         int64   `json:"bytes"`
	Seconds       float64 `json:"seconds"`
	BitsPerSecond float64 `json:"bitsPerSecond"`
	Sent          int64   `json:"datagramsSent,omitempty"`
	Received      int64   `json:"datagramsReceived,omitempty"`
}

// Throughput sends as fast as it goes, or at the rate, and reports what arrived.
func Throughput(ctx context.Context, params ThroughputParams) (ThroughputReport, error) {
	if params.UDP {
		return udpThroughput(ctx, params)
	}
	counts := make([]count, params.Streams)
	errs := make([]error, params.Streams)
	var group sync.WaitGroup
	for i := range params.Streams {
		group.Go(func() { counts[i], errs[i] = tcpStream(ctx, params) })
	}
	group.Wait()
	var report ThroughputReport
	for _, c := range counts {
		report.Bytes += c.Bytes
		report.Seconds = max(report.Seconds, c.Time.Seconds())
	}
	report.rate()
	return report, errors.Join(errs...)
}

func (r *ThroughputReport) rate() {
	if r.Seconds > 0 {
		r.BitsPerSecond = float64(r.Bytes) * 8 / r.Seconds
	}
}

// tcpStream runs one connection of a measurement.
func tcpStream(ctx context.Context, params ThroughputParams) (count, error) {
	req := request{Mode: modeUp, Size: params.Size, Time: params.Time}
	if params.Reverse {
		req.Mode = modeDown
	}
	if err := req.validate(); err != nil {
		return count{}, err
	}
	conn, reader, err := dial(ctx, params.Address, req)
	if err != nil {
		return count{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(params.Time + 30*time.Second)); err != nil {
		return count{}, err
	}
	if params.Reverse {
		return drain(reader)
	}
	if err := flood(conn, params.Size, params.Time); err != nil {
		return count{}, err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return count{}, err
	}
	var got count
	if err := readLine(reader, &got); err != nil {
		return count{}, fmt.Errorf("read the count: %w", err)
	}
	return got, nil
}

// flood writes until the time is over.
func flood(w io.Writer, size int, duration time.Duration) error {
	data := make([]byte, size)
	for end := time.Now().Add(duration); time.Now().Before(end); {
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return nil
}

// drain reads to the end and counts, from the first byte to the last.
func drain(r io.Reader) (count, error) {
	buffer := make([]byte, 256<<10)
	var c count
	var start time.Time
	for {
		n, err := r.Read(buffer)
		if start.IsZero() {
			start = time.Now()
		} else if n > 0 {
			c.Time = time.Since(start)
		}
		c.Bytes += int64(n)
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return c, err
		}
	}
}

// udpHeader is the session and the number of a datagram.
const udpHeader = 16

// udpThroughput sends datagrams in batches and asks the server what arrived.
func udpThroughput(ctx context.Context, params ThroughputParams) (ThroughputReport, error) {
	req := request{Mode: modeUDP, Size: max(params.Size, udpHeader), Session: rand.Uint64()}
	if err := req.validate(); err != nil {
		return ThroughputReport{}, err
	}
	control, reader, err := dial(ctx, params.Address, req)
	if err != nil {
		return ThroughputReport{}, err
	}
	defer control.Close()
	defer context.AfterFunc(ctx, func() { control.Close() })()
	if err := control.SetDeadline(time.Now().Add(params.Time + 30*time.Second)); err != nil {
		return ThroughputReport{}, err
	}
	var ready count
	if err := readLine(reader, &ready); err != nil { // the server counts from now on
		return ThroughputReport{}, fmt.Errorf("read the server's word to start: %w", err)
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(params.Address))
	if err != nil {
		return ThroughputReport{}, err
	}
	defer conn.Close()
	sent, err := sendDatagrams(ctx, conn, params, req)
	if err != nil {
		return ThroughputReport{}, err
	}
	if err := control.(*net.TCPConn).CloseWrite(); err != nil {
		return ThroughputReport{}, err
	}
	var got count
	if err := readLine(reader, &got); err != nil {
		return ThroughputReport{}, fmt.Errorf("read the count: %w", err)
	}
	report := ThroughputReport{Bytes: got.Bytes, Seconds: got.Time.Seconds(), Sent: sent, Received: got.Datagrams}
	report.rate()
	return report, nil
}

// sendDatagrams writes batches until the time is over and returns how many
// datagrams left.
func sendDatagrams(ctx context.Context, conn *net.UDPConn, params ThroughputParams, req request) (int64, error) {
	const batch = 32
	writer := ipv4.NewPacketConn(conn) // batches are the same in both families
	messages := make([]ipv4.Message, batch)
	for i := range messages {
		data := make([]byte, req.Size)
		binary.BigEndian.PutUint64(data, req.Session)
		messages[i].Buffers = [][]byte{data}
	}
	var sent int64
	start := time.Now()
	for ctx.Err() == nil && time.Since(start) < params.Time {
		if ahead := sendingAhead(sent, req.Size, params.Rate, time.Since(start)); ahead > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(ahead):
			}
			continue
		}
		for i := range messages {
			binary.BigEndian.PutUint64(messages[i].Buffers[0][8:], uint64(sent)+uint64(i))
		}
		n, err := writer.WriteBatch(messages, 0)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !transient(err) {
			return sent, err
		}
		sent += int64(max(n, 0))
	}
	return sent, ctx.Err()
}

// sendingAhead is for how long nothing may be sent at a rate.
func sendingAhead(sent int64, size int, rate float64, elapsed time.Duration) time.Duration {
	if rate <= 0 {
		return 0
	}
	due := time.Duration(float64(sent) * float64(size) * 8 / rate * float64(time.Second))
	return due - elapsed
}
