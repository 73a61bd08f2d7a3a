// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc (USER_HZ, proc(5)).
const tick = time.Second / 100

// Process is one that CPU time can belong to.
type Process struct {
	PID  int
	Name string   // as the kernel has it, at most 15 bytes
	Args []string // the first is empty when there are none
}

// CPU measures the CPU time that the machine spends on chosen programs and in
// the kernel, where packets travel on nobody's account. It is what the machine
// was busy without the time of all other programs, so that these may come and
// go; programs whose children are chosen must be chosen themselves.
type CPU struct {
	// Proc is where procfs is mounted.
	Proc string
	// Counts tells whether the time of a process counts.
	Counts func(Process) bool
}

// Start begins a measurement; stop ends it and returns the time.
func (c CPU) Start() (stop func() (time.Duration, error), err error) {
	before, err := c.read()
	if err != nil {
		return nil, err
	}
	return func() (time.Duration, error) {
		after, err := c.read()
		return max(0, after-before) * tick, err
	}, nil
}

// read returns the ticks since the machine started.
func (c CPU) read() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(c.Proc, "stat"))
	if err != nil {
		return 0, fmt.Errorf("CPU time: %w", err)
	}
	busy, err := parseBusy(string(text))
	if err != nil {
		return 0, fmt.Errorf("CPU time: %w", err)
	}
	entries, err := os.ReadDir(c.Proc)
	if err != nil {
		return 0, fmt.Errorf("CPU time: %w", err)
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(c.Proc, entry.Name(), "stat"))
		if err != nil {
			continue // ended meanwhile: its time is with its parent
		}
		s, err := parseStat(string(text))
		if err != nil {
			return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
		}
		if s.kernel(pid) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(c.Proc, entry.Name(), "cmdline")) // empty when it ends just now
		p := Process{PID: pid, Name: s.name}
		for arg := range bytes.SplitSeq(bytes.TrimSuffix(line, []byte{0}), []byte{0}) {
			p.Args = append(p.Args, string(arg))
		}
		if !c.Counts(p) {
			busy -= s.ticks
		}
	}
	return time.Duration(busy), nil
}

// parseBusy reads from /proc/stat how long all CPUs were not idle.
func parseBusy(text string) (int64, error) {
	first, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(first)
	// user nice system idle iowait irq softirq
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("line %q is not what it should be", first)
	}
	var busy int64
	for _, at := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseInt(fields[at], 10, 64)
		if err != nil {
			return 0, err
		}
		busy += n
	}
	return busy, nil
}

// stat is what /proc/PID/stat says.
type stat struct {
	name   string
	parent int
	// ticks are those of the process and of its children that it waited for.
	ticks int64
	// started is in ticks too.
	started int64
}

// ProcessStat is what the text of /proc/PID/stat says of a process: the CPU time of
// it and of its children that it waited for, and when it started, after the
// machine did.
func ProcessStat(text string) (cpu, started time.Duration, err error) {
	s, err := parseStat(text)
	if err != nil {
		return 0, 0, fmt.Errorf("process status %q: %w", text, err)
	}
	return time.Duration(s.ticks) * tick, time.Duration(s.started) * tick, nil
}

// kthreadd is the parent of all threads of the kernel.
const kthreadd = 2

func (s stat) kernel(pid int) bool { return pid == kthreadd || s.parent == kthreadd }

func parseStat(text string) (stat, error) {
	// The name may hold anything, parentheses as well.
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return stat{}, errors.New("no name")
	}
	s := stat{name: text[open+1 : end]}
	fields := strings.Fields(text[end+1:])
	const firstField = 3 // of those after the name, as proc(5) counts
	field := func(number int) (int64, error) {
		if number-firstField >= len(fields) {
			return 0, fmt.Errorf("no field %d", number)
		}
		return strconv.ParseInt(fields[number-firstField], 10, 64)
	}
	parent, err := field(4)
	if err != nil {
		return stat{}, err
	}
	s.parent = int(parent)
	if s.started, err = field(22); err != nil {
		return stat{}, err
	}
	for _, number := range []int{14, 15, 16, 17} {
		n, err := field(number)
		if err != nil {
			return stat{}, err
		}
		s.ticks += n
	}
	return s, nil
}
