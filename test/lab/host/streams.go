// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// drainTime bounds the reading of output after a command has ended.
const drainTime = 2 * time.Second

// streams are the three descriptors of a command and the copying to and from
// readers and writers that are not files.
type streams struct {
	passed [3]*os.File
	own    []*os.File // to be closed once passed
	reads  []*os.File
	copies sync.WaitGroup
}

func openStreams(cmd Cmd) (*streams, error) {
	s := &streams{}
	err := errors.Join(s.input(cmd.Stdin), s.output(1, cmd.Stdout), s.output(2, cmd.Stderr))
	if err != nil {
		s.closePassed()
		s.wait()
		return nil, err
	}
	return s, nil
}

func (s *streams) input(r io.Reader) error {
	if file, ok := r.(*os.File); ok {
		s.passed[0] = file
		return nil
	}
	if r == nil {
		return s.null(0)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	s.passed[0], s.own = read, append(s.own, read)
	// Not waited for: the command may end without reading to the end.
	go func() {
		defer write.Close()
		_, _ = io.Copy(write, r)
	}()
	return nil
}

func (s *streams) output(i int, w io.Writer) error {
	if file, ok := w.(*os.File); ok {
		s.passed[i] = file
		return nil
	}
	if w == nil {
		return s.null(i)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	s.passed[i], s.own, s.reads = write, append(s.own, write), append(s.reads, read)
	s.copies.Add(1)
	go func() {
		defer s.copies.Done()
		defer read.Close()
		_, _ = io.Copy(w, read)
	}()
	return nil
}

func (s *streams) null(i int) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	s.passed[i], s.own = null, append(s.own, null)
	return nil
}

func (s *streams) closePassed() { closeAll(s.own) }

// wait waits for the rest of the output. Something that the command left
// running may hold the pipes for ever, so there is a limit.
func (s *streams) wait() {
	for _, read := range s.reads {
		_ = read.SetReadDeadline(time.Now().Add(drainTime))
	}
	s.copies.Wait()
}
