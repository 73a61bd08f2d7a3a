// SPDX-License-Identifier: Apache-2.0

package check

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waymark-net/waymark/test/lab/probe/icmpecho"
	"github.com/waymark-net/waymark/test/lab/probe/serve"
)

// errWrong is an answer that does not belong to the question.
var errWrong = errors.New("the answer is not what was sent")

// Run tries all targets, at most parallel at once, and returns their results in
// the same order. It ends early, with failures, when ctx does.
func Run(ctx context.Context, targets []Target, parallel int) []Result {
	results := make([]Result, len(targets))
	slots := make(chan struct{}, max(parallel, 1))
	var group sync.WaitGroup
	for i, target := range targets {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			results[i] = try(ctx, target)
		})
	}
	group.Wait()
	return results
}

func try(ctx context.Context, target Target) Result {
	result := Result{Name: target.Name}
	begun := time.Now()
	err := target.Validate()
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, target.timeout())
		defer cancel()
		switch target.Protocol {
		case TCP:
			err = tryTCP(ctx, target, &result)
		case UDP:
			err = tryUDP(ctx, target, &result)
		case ICMP:
			err = tryICMP(ctx, target, &result)
		case HTTP:
			err = tryHTTP(ctx, target, &result)
		case DNS:
			err = tryDNS(ctx, target, &result)
		}
	}
	if err != nil {
		result.After = millis(time.Since(begun))
		result.Reason, result.Error = Reason(err), err.Error()
		return result
	}
	result.OK = true
	return result
}

// Reason classifies the error of an exchange: one of the reasons of a [Result].
func Reason(err error) string {
	var timeout net.Error
	var name *net.DNSError
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return NoName
	case errors.Is(err, errWrong):
		return Wrong
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EACCES):
		return Unreachable
	case errors.Is(err, syscall.EMSGSIZE):
		return TooLarge
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	case errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	}
	return Failed
}

// observe takes over what a server says about an exchange.
func (r *Result) observe(hello serve.Hello) {
	r.Client, r.Host = hello.Client, hello.Host
}

func payload(size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte('a' + i%26)
	}
	return data
}

// tryTCP connects, reads who is there, and has the payload echoed. The time is
// that of the echo.
func tryTCP(ctx context.Context, target Target, result *Result) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(target.Address, target.Port).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	reader := bufio.NewReader(conn)
	line, err := reader.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the greeting: %w", err)
	}
	var hello serve.Hello
	if err := json.Unmarshal(line, &hello); err != nil {
		return fmt.Errorf("greeting %.80q: %w", line, errWrong)
	}
	result.observe(hello)
	sent := payload(target.size())
	start := time.Now()
	// Written beside the reading: more than the buffers hold would stand still.
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		written <- err
	}()
	got := make([]byte, len(sent))
	_, readErr := io.ReadFull(reader, got)
	result.Millis = millis(time.Since(start))
	if readErr != nil {
		conn.Close()
		<-written
		return fmt.Errorf("read %d echoed bytes: %w", len(sent), readErr)
	}
	if err := <-written; err != nil {
		return err
	}
	if !bytes.Equal(sent, got) {
		return errWrong
	}
	return nil
}

// resend is after how long a datagram without an answer is sent again: one that
// got lost is not a broken path, and the number of tries is in the result.
const resend = 500 * time.Millisecond

func tryUDP(ctx context.Context, target Target, result *Result) error {
	conn, err := net.DialUDP("udp", &net.UDPAddr{Port: int(target.From)}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(target.Address, target.Port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if target.DontFragment {
		if err := dontFragment(conn, target.Address.Is6()); err != nil {
			return err
		}
	}
	sent := payload(target.size())
	buffer := make([]byte, 65536)
	deadline, _ := ctx.Deadline()
	for time.Now().Before(deadline) {
		result.Tries++
		start := time.Now()
		if _, err := conn.Write(sent); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(earlier(deadline, start.Add(resend))); err != nil {
			return err
		}
		n, err := conn.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return err
		}
		result.Millis = millis(time.Since(start))
		var hello serve.Hello
		line, rest, _ := bytes.Cut(buffer[:n], []byte("\n"))
		if err := json.Unmarshal(line, &hello); err != nil || !bytes.Equal(rest, sent) {
			return errWrong
		}
		result.observe(hello)
		return nil
	}
	return fmt.Errorf("%d datagrams without an answer: %w", result.Tries, os.ErrDeadlineExceeded)
}

func tryICMP(ctx context.Context, target Target, result *Result) error {
	family := 4
	if target.Address.Is6() {
		family = 6
	}
	socket, err := icmpecho.Open(icmpecho.Params{Family: family, DontFragment: target.DontFragment})
	if err != nil {
		return err
	}
	defer socket.Close()
	deadline, _ := ctx.Deadline()
	for time.Now().Before(deadline) {
		result.Tries++
		if err := socket.Send(target.Address, uint64(result.Tries), target.size()); err != nil {
			return err
		}
		reply, err := socket.Read(earlier(deadline, time.Now().Add(resend)))
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return err
		}
		result.Millis = millis(reply.At.Sub(reply.Sent))
		return nil
	}
	return fmt.Errorf("%d echo requests without an answer: %w", result.Tries, os.ErrDeadlineExceeded)
}

// dontFragment has the kernel send datagrams whole or not at all.
func dontFragment(conn *net.UDPConn, v6 bool) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		if v6 {
			inner = errors.Join(
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1))
		} else {
			inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
		}
	})
	return errors.Join(err, inner)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
