// SPDX-License-Identifier: Apache-2.0

package podlink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Event is how an end of a veth pair is now.
type Event struct {
	// Name of the interface.
	Name string
	// Pod says that it is in another namespace, which has an end of a pair here.
	Pod bool
	// MTU in bytes.
	MTU int
	Up  bool
}

// WatcherParams are what NewWatcher needs.
type WatcherParams struct {
	// Notify is called from Run's goroutine and must return soon.
	Notify func(Event)
	// Lost is called likewise when events may have been lost, and when Run begins
	// to listen.
	Lost func()
}

// Watcher tells of changes of both ends of links, whoever made them. One socket
// hears the ends in Pods, too: the kernel gives what happens in other namespaces to
// who asks for it, as far as a name leads there (NETLINK_LISTEN_ALL_NSID of
// netlink(7)), and the host's end of a pair makes such a name.
type Watcher struct{ p WatcherParams }

// NewWatcher makes a Watcher.
func NewWatcher(p WatcherParams) *Watcher { return &Watcher{p} }

// eventBuffer holds the events of a burst, in bytes.
const eventBuffer = 4 << 20

// Run notifies until ctx is done, and then returns nil.
func (w *Watcher) Run(ctx context.Context) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("watching links: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.RTNLGRP_LINK),
	)
	// As a file it waits in the poller of the runtime, and Close wakes it.
	socket := os.NewFile(uintptr(fd), "netlink")
	defer socket.Close()
	if err != nil {
		return fmt.Errorf("watching links: %w", err)
	}
	defer context.AfterFunc(ctx, func() { socket.Close() })()
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("watching links: %w", err)
	}
	w.p.Lost()
	data, control := make([]byte, 1<<16), make([]byte, 256)
	for {
		err := w.receive(raw, data, control)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			w.p.Lost()
		case err != nil:
			return fmt.Errorf("watching links: %w", err)
		}
	}
}

// receive tells of the events of one message.
func (w *Watcher) receive(raw syscall.RawConn, data, control []byte) error {
	var n, controlLen int
	var from unix.Sockaddr
	var err error
	readErr := raw.Read(func(fd uintptr) bool {
		n, controlLen, _, from, err = unix.Recvmsg(int(fd), data, control, 0)
		return !errors.Is(err, unix.EAGAIN)
	})
	if err := errors.Join(readErr, err); err != nil {
		return err
	}
	if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != nl.PidKernel {
		return nil
	}
	msgs, err := syscall.ParseNetlinkMessage(data[:n])
	if err != nil {
		return err
	}
	elsewhere := fromElsewhere(control[:controlLen])
	for _, m := range msgs {
		if e, ok := parseEvent(m, elsewhere); ok {
			w.p.Notify(e)
		}
	}
	return nil
}

// fromElsewhere tells whether a message comes from another namespace, of which
// there is a number beside it then.
func fromElsewhere(control []byte) bool {
	list, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return false
	}
	for _, c := range list {
		if c.Header.Level == unix.SOL_NETLINK && c.Header.Type == unix.NETLINK_LISTEN_ALL_NSID {
			return true
		}
	}
	return false
}

// parseEvent is false for what does not tell how an end of one of our links is: in
// the host that is one of our names, elsewhere any interface whose other end is in
// a third place.
func parseEvent(m syscall.NetlinkMessage, elsewhere bool) (Event, bool) {
	if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return Event{}, false
	}
	attributes, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return Event{}, false
	}
	e := Event{Pod: elsewhere, Up: nl.DeserializeIfInfomsg(m.Data).Flags&unix.IFF_UP != 0}
	paired := false
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.IFLA_IFNAME:
			e.Name = unix.ByteSliceToString(a.Value)
		case unix.IFLA_MTU:
			if len(a.Value) == 4 {
				e.MTU = int(nl.NativeEndian().Uint32(a.Value))
			}
		case unix.IFLA_LINK_NETNSID:
			paired = true
		}
	}
	return e, e.MTU > 0 && (elsewhere && paired || !elsewhere && IsHostInterface(e.Name))
}
