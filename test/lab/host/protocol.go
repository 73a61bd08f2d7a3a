// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// The control socket is of type SOCK_SEQPACKET: one JSON document a packet,
// file descriptors beside it. A connection carries one request; for opRun it
// stays open until the command ends, and closing it kills the command.

type operation string

const (
	opPing  operation = "ping"
	opStart operation = "start"
	opStop  operation = "stop"
	opList  operation = "list"
	opRun   operation = "run"
	opDial  operation = "dial"
	// opSignal is sent on the connection of a running command.
	opSignal operation = "signal"
)

type request struct {
	Op      operation `json:"op"`
	Process *Process  `json:"process,omitempty"` // start
	Name    string    `json:"name,omitempty"`    // stop
	Signal  int       `json:"signal,omitempty"`  // stop, signal
	Run     *runArgs  `json:"run,omitempty"`     // run, with three descriptors
	Network string    `json:"network,omitempty"` // dial
	Address string    `json:"address,omitempty"` // dial
}

type runArgs struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir,omitempty"`
}

type response struct {
	Error     string          `json:"error,omitempty"`
	Processes []ProcessStatus `json:"processes,omitempty"`
	Exit      *exitStatus     `json:"exit,omitempty"`
}

type exitStatus struct {
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
}

// maxPacket bounds a request; the kernel's default send buffer is smaller.
const maxPacket = 1 << 18

func send(conn *net.UnixConn, message any, files ...*os.File) error {
	data, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = syscall.UnixRights(fds...)
	}
	if _, _, err := conn.WriteMsgUnix(data, rights, nil); err != nil {
		return fmt.Errorf("send %d bytes: %w", len(data), err)
	}
	return nil
}

// receive returns io.EOF when the other side has closed. The caller closes the files.
func receive(conn *net.UnixConn, message any) ([]*os.File, error) {
	data, oob := make([]byte, maxPacket), make([]byte, syscall.CmsgSpace(3*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(data, oob)
	if errors.Is(err, io.EOF) {
		// When a packet and the end come while it looks, Linux tells a reader that
		// does not block of the end alone. The packet is there when it looks again.
		n, oobn, _, _, err = conn.ReadMsgUnix(data, oob)
	}
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	if n == 0 {
		return nil, io.EOF
	}
	files, err := parseRights(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data[:n], message); err != nil {
		closeAll(files)
		return nil, fmt.Errorf("decode message: %w", err)
	}
	return files, nil
}

func parseRights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse descriptors: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("parse descriptors: %w", err)
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

func (r response) err() error {
	if r.Error == "" {
		return nil
	}
	return errors.New(r.Error)
}
