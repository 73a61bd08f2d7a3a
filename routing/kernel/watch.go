// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// Change is a set of things that may have changed in the kernel.
type Change uint8

// What may have changed.
const (
	ChangedRoutes Change = 1 << iota
	ChangedLinks
	ChangedAddresses
	ChangedNeighbours
	// ChangedServiceRoutes are those of ServiceProtocol.
	ChangedServiceRoutes

	changedAll = ChangedRoutes | ChangedLinks | ChangedAddresses | ChangedNeighbours | ChangedServiceRoutes
)

// WatcherParams are what NewWatcher needs.
type WatcherParams struct {
	// Gateway is the interface whose neighbours are watched.
	Gateway string
	// Ignore tells which links come and go without meaning; may be nil.
	Ignore func(name string) bool
	// Gone is called, as Notify is, with the name of every link that was
	// removed, ignored or not; may be nil.
	Gone func(name string)
	// Notify is called from Run's goroutine and must return soon: it marks
	// things dirty, and nothing else.
	Notify func(Change)
}

// Watcher listens to the kernel and tells what may have changed behind our
// back. It tells too much rather than too little: a notification says look
// again, and looking costs no write.
type Watcher struct{ p WatcherParams }

// NewWatcher makes a Watcher.
func NewWatcher(p WatcherParams) *Watcher { return &Watcher{p} }

// Run notifies until ctx is done, and then returns nil. Every change possible
// is notified at the start and after messages were lost, so that whoever looks
// upon a notification never misses one.
func (w *Watcher) Run(ctx context.Context) error {
	for {
		err := w.listen(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			klog.FromContext(ctx).V(2).Info("Kernel notifications were lost, looking at everything again")
		default:
			return fmt.Errorf("kernel notifications: %w", err)
		}
	}
}

func (w *Watcher) listen(ctx context.Context) error {
	sub, err := subscribe(ctx, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return err
	}
	defer sub.close()
	w.p.Notify(changedAll)
	for {
		msgs, err := sub.receive()
		if err != nil {
			return err
		}
		var all Change
		for _, m := range msgs {
			if m.Header.Type == unix.RTM_DELLINK && w.p.Gone != nil {
				w.p.Gone(linkName(m))
			}
			c, neighOn := classify(m)
			if c == ChangedNeighbours && !w.isGateway(neighOn) || c == ChangedLinks && w.ignored(m) {
				continue
			}
			all |= c
		}
		if all != 0 {
			w.p.Notify(all)
		}
	}
}

func (w *Watcher) isGateway(index int) bool {
	link, err := netlink.LinkByIndex(index)
	return err == nil && link.Attrs().Name == w.p.Gateway
}

// ignored tells whether a notification is about a link that has no meaning.
func (w *Watcher) ignored(m syscall.NetlinkMessage) bool {
	return w.p.Ignore != nil && w.p.Ignore(linkName(m))
}

// linkName reads the name of the link that a notification is about, empty if
// there is none.
func linkName(m syscall.NetlinkMessage) string {
	if len(m.Data) < unix.SizeofIfInfomsg {
		return ""
	}
	attributes, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return ""
	}
	for _, a := range attributes {
		if a.Attr.Type == unix.IFLA_IFNAME {
			return unix.ByteSliceToString(a.Value)
		}
	}
	return ""
}

// classify says what a notification means to us; for ChangedNeighbours, on
// which interface. New routes of our own are our own doing.
func classify(m syscall.NetlinkMessage) (c Change, neighOn int) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return ChangedLinks, 0
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return ChangedAddresses, 0
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.Data) < unix.SizeofRtMsg {
			return 0, 0
		}
		msg := nl.DeserializeRtMsg(m.Data)
		ours := msg.Protocol == Protocol || msg.Protocol == ServiceProtocol
		if msg.Table != unix.RT_TABLE_MAIN || msg.Flags&unix.RTM_F_CLONED != 0 || ours && m.Header.Type == unix.RTM_NEWROUTE {
			return 0, 0
		}
		if msg.Protocol == ServiceProtocol {
			return ChangedServiceRoutes, 0
		}
		return ChangedRoutes, 0
	case unix.RTM_DELNEIGH:
		if len(m.Data) < unix.SizeofNdMsg {
			return 0, 0
		}
		// struct ndmsg: family, two bytes of padding, then the index.
		return ChangedNeighbours, int(int32(nl.NativeEndian().Uint32(m.Data[4:8])))
	}
	return 0, 0
}

// subscription is a socket that hears multicast groups of rtnetlink(7).
type subscription struct {
	ctx  context.Context
	s    *nl.NetlinkSocket
	stop func() bool
}

// receiveBuffer holds the notifications of a burst, in bytes.
const receiveBuffer = 4 << 20

// subscribe listens until ctx is done or close is called.
func subscribe(ctx context.Context, groups ...uint) (*subscription, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return nil, fmt.Errorf("subscribing to kernel notifications: %w", err)
	}
	if err := s.SetReceiveBufferSize(receiveBuffer, true); err != nil {
		s.Close()
		return nil, fmt.Errorf("sizing the buffer of kernel notifications: %w", err)
	}
	return &subscription{ctx: ctx, s: s, stop: context.AfterFunc(ctx, s.Close)}, nil
}

// receive blocks for the next messages from the kernel.
func (s *subscription) receive() ([]syscall.NetlinkMessage, error) {
	for {
		msgs, from, err := s.s.Receive()
		switch {
		case s.ctx.Err() != nil:
			return nil, context.Cause(s.ctx)
		case err != nil:
			return nil, err
		case from.Pid == nl.PidKernel:
			return msgs, nil
		}
	}
}

func (s *subscription) close() {
	if s.stop() {
		s.s.Close()
	}
}
