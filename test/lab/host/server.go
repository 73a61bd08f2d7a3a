// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

// dialTimeout bounds a connection opened for someone outside the host.
const dialTimeout = 10 * time.Second

// server answers requests on the control socket, each in its own goroutine.
type server struct {
	supervisor *supervisor
}

func (s *server) serve(listener *net.UnixListener) error {
	for {
		conn, err := listener.AcceptUnix()
		if err != nil {
			return fmt.Errorf("accept on control socket: %w", err)
		}
		go s.handle(conn)
	}
}

// handle answers one request. A requester that has gone away is not an error.
func (s *server) handle(conn *net.UnixConn) {
	defer conn.Close()
	var req request
	files, err := receive(conn, &req)
	if err != nil {
		return
	}
	defer closeAll(files)
	answer, passed, err := s.answer(conn, req, files)
	if err != nil {
		answer.Error = err.Error()
	}
	_ = send(conn, answer, passed...)
	closeAll(passed)
}

func (s *server) answer(conn *net.UnixConn, req request, files []*os.File) (response, []*os.File, error) {
	switch req.Op {
	case opPing:
		return response{}, nil, nil
	case opStart:
		if req.Process == nil {
			return response{}, nil, errors.New("start: no process")
		}
		return response{}, nil, s.supervisor.start(*req.Process)
	case opStop:
		return response{}, nil, s.supervisor.stop(req.Name, syscall.Signal(req.Signal))
	case opList:
		return response{Processes: s.supervisor.list()}, nil, nil
	case opRun:
		exit, err := s.run(conn, req.Run, files)
		return response{Exit: exit}, nil, err
	case opDial:
		file, err := dial(req.Network, req.Address)
		if err != nil {
			return response{}, nil, err
		}
		return response{}, []*os.File{file}, nil
	default:
		return response{}, nil, fmt.Errorf("unknown request %q", req.Op)
	}
}

// run starts a command on the three passed descriptors, passes on signals and
// kills the command's group when the requester goes away.
func (s *server) run(conn *net.UnixConn, args *runArgs, files []*os.File) (*exitStatus, error) {
	if args == nil || len(files) != 3 {
		return nil, fmt.Errorf("run: want a command and three descriptors, got %d", len(files))
	}
	dir := args.Dir
	if _, err := os.Stat(dir); err != nil {
		dir = "/" // a folder of the machine that a private root does not show
	}
	c, err := s.supervisor.children.spawn(args.Argv, slices.Concat(s.supervisor.env, args.Env), dir, [3]*os.File(files))
	if err != nil {
		return nil, err
	}
	closeAll(files) // the command alone holds them: its end closes the pipes
	go func() {
		for {
			var req request
			extra, err := receive(conn, &req)
			if err != nil {
				c.signalGroup(syscall.SIGKILL)
				return
			}
			closeAll(extra)
			if req.Op == opSignal {
				c.signalGroup(syscall.Signal(req.Signal))
			}
		}
	}()
	<-c.done
	exit := c.exit()
	return &exit, nil
}

func dial(network, address string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	withFile, ok := conn.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("dial %s %s: connection has no descriptor", network, address)
	}
	file, err := withFile.File()
	if err != nil {
		return nil, fmt.Errorf("dial %s %s: %w", network, address, err)
	}
	return file, nil
}
