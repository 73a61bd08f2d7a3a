// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Host is a running host, reached by its control socket.
type Host struct {
	name   string
	socket string
}

// Attach returns the running host whose state is in dir.
func Attach(name, stateDir string) *Host {
	return &Host{name: name, socket: socketPath(stateDir)}
}

// Name returns the name of the host.
func (h *Host) Name() string { return h.name }

// Ping tells whether the host is alive.
func (h *Host) Ping(ctx context.Context) error {
	_, err := h.ask(ctx, request{Op: opPing})
	return err
}

// StartProcess starts a supervised program and waits for its socket, if it has one.
func (h *Host) StartProcess(ctx context.Context, p Process) error {
	_, err := h.ask(ctx, request{Op: opStart, Process: &p})
	return err
}

// StopProcess ends a supervised program with the signal and keeps it down.
func (h *Host) StopProcess(ctx context.Context, name string, sig syscall.Signal) error {
	_, err := h.ask(ctx, request{Op: opStop, Name: name, Signal: int(sig)})
	return err
}

// Processes lists the supervised programs, by name.
func (h *Host) Processes(ctx context.Context) ([]ProcessStatus, error) {
	answer, err := h.ask(ctx, request{Op: opList})
	return answer.Processes, err
}

// DialContext opens a connection from within the host. Its signature is that
// of net.Dialer, so that an HTTP transport or a Kubernetes client can use it.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := h.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := send(conn, request{Op: opDial, Network: network, Address: address}); err != nil {
		return nil, fmt.Errorf("host %s: %w", h.name, err)
	}
	var answer response
	files, err := receive(conn, &answer)
	if err != nil {
		return nil, fmt.Errorf("host %s: dial %s: %w", h.name, address, errors.Join(ctx.Err(), err))
	}
	defer closeAll(files)
	if err := answer.err(); err != nil {
		return nil, fmt.Errorf("host %s: %w", h.name, err)
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("host %s: dial %s: got %d descriptors", h.name, address, len(files))
	}
	opened, err := net.FileConn(files[0])
	if err != nil {
		return nil, fmt.Errorf("host %s: dial %s: %w", h.name, address, err)
	}
	return opened, nil
}

// connect opens the control socket. The caller closes it when ctx ends, which
// makes every read on it fail.
func (h *Host) connect(ctx context.Context) (*net.UnixConn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unixpacket", h.socket)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", h.name, err)
	}
	return conn.(*net.UnixConn), nil
}

func (h *Host) ask(ctx context.Context, req request) (response, error) {
	conn, err := h.connect(ctx)
	if err != nil {
		return response{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := send(conn, req); err != nil {
		return response{}, fmt.Errorf("host %s: %w", h.name, err)
	}
	var answer response
	files, err := receive(conn, &answer)
	if err != nil {
		return response{}, fmt.Errorf("host %s: %s: %w", h.name, req.Op, errors.Join(ctx.Err(), err))
	}
	closeAll(files)
	if err := answer.err(); err != nil {
		return response{}, fmt.Errorf("host %s: %w", h.name, err)
	}
	return answer, nil
}

// Cmd is a command to run in a host.
type Cmd struct {
	Argv []string
	Env  []string // added to the host's environment
	Dir  string   // "/" when empty or not there
	// Stdin, Stdout and Stderr may be nil. An *os.File is passed as it is.
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Signals are passed on to the command while it runs; may be nil.
	Signals <-chan os.Signal
}

// ExitError says that a command ran and failed.
type ExitError struct {
	Host   string
	Argv   []string
	Code   int // -1 when killed by a signal
	Signal syscall.Signal
	// Output is the end of what the command wrote; set by Output.
	Output string
}

func (e *ExitError) Error() string {
	how := exitStatus{Code: e.Code, Signal: int(e.Signal)}.String()
	text := fmt.Sprintf("%s: %s: %s", e.Host, strings.Join(e.Argv, " "), how)
	if e.Output != "" {
		text += ": " + e.Output
	}
	return text
}

// Run runs a command in the host until it ends; a canceled context kills it.
// A command that ran and failed gives an *ExitError.
func (h *Host) Run(ctx context.Context, cmd Cmd) error {
	conn, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()

	streams, err := openStreams(cmd)
	if err != nil {
		return fmt.Errorf("host %s: %s: %w", h.name, cmd.Argv, err)
	}
	dir := cmd.Dir
	if dir == "" {
		dir = "/"
	}
	err = send(conn, request{Op: opRun, Run: &runArgs{Argv: cmd.Argv, Env: cmd.Env, Dir: dir}}, streams.passed[:]...)
	streams.closePassed()
	if err != nil {
		streams.wait()
		return fmt.Errorf("host %s: %w", h.name, err)
	}
	ended := make(chan struct{})
	defer close(ended)
	go forward(conn, cmd.Signals, ended)

	var answer response
	files, err := receive(conn, &answer)
	closeAll(files)
	streams.wait()
	switch {
	case err != nil:
		return fmt.Errorf("host %s: %s: %w", h.name, strings.Join(cmd.Argv, " "), errors.Join(ctx.Err(), err))
	case answer.Error != "":
		return fmt.Errorf("host %s: %w", h.name, answer.err())
	case answer.Exit == nil:
		return fmt.Errorf("host %s: %s: answer without exit status", h.name, strings.Join(cmd.Argv, " "))
	case *answer.Exit != exitStatus{}:
		return &ExitError{Host: h.name, Argv: cmd.Argv, Code: answer.Exit.Code, Signal: syscall.Signal(answer.Exit.Signal)}
	}
	return nil
}

func forward(conn *net.UnixConn, signals <-chan os.Signal, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case sig, ok := <-signals:
			if number, isNumber := sig.(syscall.Signal); ok && isNumber {
				_ = send(conn, request{Op: opSignal, Signal: int(number)})
			} else if !ok {
				return
			}
		}
	}
}

// Output runs a command and returns what it wrote to standard output. On
// failure the error holds the end of both outputs.
func (h *Host) Output(ctx context.Context, stdin io.Reader, argv ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	err := h.Run(ctx, Cmd{Argv: argv, Stdin: stdin, Stdout: &stdout, Stderr: &stderr})
	var exit *ExitError
	if errors.As(err, &exit) {
		exit.Output = tail(strings.TrimSpace(stderr.String() + "\n" + stdout.String()))
	}
	return stdout.String(), err
}

func tail(text string) string {
	const most = 2000
	if len(text) > most {
		return "..." + text[len(text)-most:]
	}
	return text
}
