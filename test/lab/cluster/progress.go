// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progress shows steps with the time since the start and what each took.
type progress struct {
	out   io.Writer
	now   func() time.Time
	start time.Time

	mu   sync.Mutex
	open bool // a step's line waits for its end
}

func newProgress(out io.Writer, now func() time.Time) *progress {
	if out == nil {
		out = io.Discard
	}
	return &progress{out: out, now: now, start: now()}
}

// step runs one step. The error says which step failed.
func (p *progress) step(name string, run func() error) error {
	begin := p.now()
	p.print(fmt.Sprintf("%7.1fs  %s ...", begin.Sub(p.start).Seconds(), name), true)
	err := run()
	if err != nil {
		p.end("FAILED")
		return fmt.Errorf("%s: %w", name, err)
	}
	p.end(fmt.Sprintf("%.1fs", p.now().Sub(begin).Seconds()))
	return nil
}

// note says something within a step.
func (p *progress) note(text string) { p.print("          "+text, false) }

func (p *progress) print(text string, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open {
		fmt.Fprintln(p.out)
	}
	fmt.Fprint(p.out, text)
	if !open {
		fmt.Fprintln(p.out)
	}
	p.open = open
}

func (p *progress) end(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	indent := " "
	if !p.open {
		indent = "          "
	}
	fmt.Fprintln(p.out, indent+text)
	p.open = false
}
