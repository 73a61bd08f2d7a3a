// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
)

// line is one line that a program wrote, and when.
type line struct {
	at   time.Time
	text string
}

// lines gathers what a running program writes. It is an io.Writer.
type lines struct {
	mu   sync.Mutex
	rest []byte
	all  []line
}

func (l *lines) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.rest = append(l.rest, data...)
	for {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 {
			return len(data), nil
		}
		l.all = append(l.all, line{now, string(l.rest[:end])})
		l.rest = l.rest[end+1:]
	}
}

// with returns the lines that contain a text.
func (l *lines) with(text string) []line {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []line
	for _, have := range l.all {
		if strings.Contains(have.text, text) {
			found = append(found, have)
		}
	}
	return found
}

func (l *lines) String() string {
	var b strings.Builder
	for _, have := range l.with("") {
		fmt.Fprintln(&b, have.text)
	}
	return b.String()
}

// routeWatch sees every change of a router's routing table, as its kernel
// reports it.
type routeWatch struct {
	lab    *cluster.Lab
	router string
	seen   *lines
	marks  int
}

// watchRoutes watches until the test ends.
func watchRoutes(t *testing.T, lab *cluster.Lab, router string) *routeWatch {
	t.Helper()
	h, err := lab.Host(router)
	if err != nil {
		t.Fatal(err)
	}
	w := &routeWatch{lab: lab, router: router, seen: &lines{}}
	go func() {
		// Ends with the test, and then says that it was killed.
		_ = h.Run(t.Context(), host.Cmd{Argv: []string{"ip", "-o", "monitor", "route"}, Stdout: w.seen})
	}()
	w.catchUp(t)
	return w
}

// catchUp returns when everything that has happened has been seen: it makes a
// route that means nothing until it sees that.
func (w *routeWatch) catchUp(t *testing.T) {
	t.Helper()
	w.marks++
	mark := fmt.Sprintf("blackhole 192.0.2.255 metric %d", w.marks)
	script := fmt.Sprintf("ip route replace %[1]s && ip route delete %[1]s", mark)
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		if _, err := w.lab.Exec(ctx, w.router, "sh", "-c", script); err != nil {
			return err
		}
		if len(w.seen.with(mark+" ")) == 0 {
			return fmt.Errorf("%s shows no changes of its routes", w.router)
		}
		return nil
	})
}

// gone are the removals of routes to a prefix that can be used.
func (w *routeWatch) gone(p netip.Prefix) []line { return w.beginning("Deleted " + p.String() + " ") }

// added are the routes to a prefix that can be used, new and changed ones.
func (w *routeWatch) added(p netip.Prefix) []line { return w.beginning(p.String() + " ") }

func (w *routeWatch) beginning(text string) []line {
	return slices.DeleteFunc(w.seen.with(text), func(l line) bool { return !strings.HasPrefix(l.text, text) })
}
