// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// Capture records the packets on a link until Stop.
type Capture struct {
	// File is where the packets are, in pcap format; it goes with the lab.
	File string

	said    *firstLine
	signals chan os.Signal
	ended   chan error
}

// Capture starts to record packets on a link (or HOST:INTERFACE) and returns
// when the recording runs. filter is an expression for tcpdump(1).
func (l *Lab) Capture(ctx context.Context, link string, filter ...string) (*Capture, error) {
	end, err := l.captureEnd(link)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(l.data(), "captures")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("capture on %s: %w", link, err)
	}
	file, err := os.CreateTemp(dir, end.Host+"-"+end.Interface+"-*.pcap")
	if err != nil {
		return nil, fmt.Errorf("capture on %s: %w", link, err)
	}
	defer file.Close()
	begun := newFirstLine("listening on")
	c := &Capture{File: file.Name(), said: begun, signals: make(chan os.Signal), ended: make(chan error, 1)}
	go func() {
		err := l.attach(end.Host).Run(ctx, host.Cmd{
			// Written to our file: tcpdump gives up root before it opens one.
			Argv:    append([]string{"tcpdump", "-i", end.Interface, "-nn", "-U", "--immediate-mode", "-s", "0", "-w", "-"}, filter...),
			Stdout:  file,
			Stderr:  begun,
			Signals: c.signals,
		})
		c.ended <- err
	}()
	// A descriptor of the file is with tcpdump before it says anything.
	select {
	case <-begun.seen:
		return c, nil
	case err := <-c.ended:
		return nil, fmt.Errorf("capture on %s: %w: %s", link, err, begun.text())
	}
}

// CaptureCmd is tcpdump on a link (or HOST:INTERFACE) with arguments, for
// running in the returned host.
func (l *Lab) CaptureCmd(link string, args ...string) (*host.Host, host.Cmd, error) {
	end, err := l.captureEnd(link)
	if err != nil {
		return nil, host.Cmd{}, err
	}
	return l.attach(end.Host), host.Cmd{Argv: append([]string{"tcpdump", "-i", end.Interface, "-nn", "-l"}, args...)}, nil
}

// captureEnd is where the packets of a link are seen: at the far end, where a
// node's own packets have been through everything that the node does to them.
func (l *Lab) captureEnd(name string) (topology.End, error) {
	if hostName, iface, ok := strings.Cut(name, ":"); ok {
		if _, err := l.Host(hostName); err != nil {
			return topology.End{}, err
		}
		return topology.End{Host: hostName, Interface: iface}, nil
	}
	link, err := l.link(name)
	return link.B, err
}

// settleDeadline bounds the wait for packets that are on their way to the file.
const settleDeadline = 5 * time.Second

// Stop ends the recording once it holds all that the link had carried before.
func (c *Capture) Stop() error {
	err := Until(context.Background(), settleDeadline, func(ctx context.Context) error { return c.settled(ctx) })
	select {
	case c.signals <- syscall.SIGINT:
		if endErr := <-c.ended; endErr != nil {
			return fmt.Errorf("capture to %s: %w: %s", c.File, endErr, c.said.text())
		}
	case endErr := <-c.ended:
		return fmt.Errorf("capture to %s ended early: %w: %s", c.File, endErr, c.said.text())
	}
	if err != nil {
		return fmt.Errorf("capture to %s: %w", c.File, err)
	}
	return nil
}

// counters is what tcpdump says when it gets SIGUSR1.
var counters = regexp.MustCompile(`(\d+) packets? captured, (\d+) packets? received by filter`)

// settled asks tcpdump for its counters and complains while the kernel has
// seen packets that are not in the file.
func (c *Capture) settled(ctx context.Context) error {
	before := len(counters.FindAllString(c.said.text(), -1))
	select {
	case c.signals <- syscall.SIGUSR1:
	case <-ctx.Done():
		return ctx.Err()
	}
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		said := counters.FindAllStringSubmatch(c.said.text(), -1)
		if len(said) > before {
			last := said[len(said)-1]
			if last[1] != last[2] {
				return fmt.Errorf("%s of %s packets written", last[1], last[2])
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no counters: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

// Packets returns the recorded packets that match a filter, one a line as
// tcpdump(1) prints them.
func (c *Capture) Packets(ctx context.Context, filter ...string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "tcpdump", append([]string{"-r", "-", "-nn"}, filter...)...)
	file, err := os.Open(c.File)
	if err != nil {
		return nil, fmt.Errorf("read capture: %w", err)
	}
	defer file.Close()
	var stderr strings.Builder
	cmd.Stdin, cmd.Stderr = file, &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("read capture %s: %w: %s", c.File, err, stderr.String())
	}
	return splitPackets(string(out)), nil
}

// splitPackets joins the indented lines that tcpdump prints after a packet's first.
func splitPackets(text string) []string {
	var packets []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			if len(packets) > 0 {
				packets[len(packets)-1] += " " + strings.TrimSpace(line)
			}
			continue
		}
		packets = append(packets, line)
	}
	return packets
}

// firstLine is a writer that tells when a text has been written to it.
type firstLine struct {
	want string
	seen chan struct{}

	mu      sync.Mutex
	written strings.Builder
	told    bool
}

var _ io.Writer = (*firstLine)(nil)

func newFirstLine(want string) *firstLine {
	return &firstLine{want: want, seen: make(chan struct{})}
}

func (f *firstLine) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written.Write(p)
	if !f.told && strings.Contains(f.written.String(), f.want) {
		f.told = true
		close(f.seen)
	}
	return len(p), nil
}

func (f *firstLine) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.written.String()
}
