// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Table is one of our tables of nftables.
type Table string

// The tables: Firewall's and ServiceFirewall's.
const (
	TableFirewall Table = tableName
	TableServices Table = serviceTableName
)

// WatcherParams are what NewWatcher needs.
type WatcherParams struct {
	// Notify is called from Run's goroutine, and must return soon, with each table
	// that somebody, we among them, may have changed.
	Notify func(Table)
}

// Watcher tells of changes to our tables of nftables. Of rules of iptables nobody
// tells; these are compared from time to time only.
type Watcher struct{ p WatcherParams }

// NewWatcher makes a Watcher.
func NewWatcher(p WatcherParams) *Watcher { return &Watcher{p} }

// nameAttribute is NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and so on: whatever a message
// of nftables is about, its first attribute names the table.
const nameAttribute = 1

// rulesetBuffer holds the notifications of a burst, in bytes.
const rulesetBuffer = 4 << 20

// Run notifies until ctx is done, and then returns nil. A kernel without nftables
// has nothing to tell.
func (w *Watcher) Run(ctx context.Context) error {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		<-ctx.Done()
		return nil
	}
	if err != nil {
		return fmt.Errorf("subscribing to changes of nftables: %w", err)
	}
	stop := context.AfterFunc(ctx, s.Close)
	defer func() {
		if stop() {
			s.Close()
		}
	}()
	if err := s.SetReceiveBufferSize(rulesetBuffer, true); err != nil {
		return fmt.Errorf("sizing the buffer of changes of nftables: %w", err)
	}
	w.notify(map[Table]bool{TableFirewall: true, TableServices: true})
	for {
		msgs, from, err := s.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			w.notify(map[Table]bool{TableFirewall: true, TableServices: true})
			continue
		case err != nil:
			return fmt.Errorf("changes of nftables: %w", err)
		case from.Pid != nl.PidKernel:
			continue
		}
		changed := map[Table]bool{}
		for _, m := range msgs {
			if t := tableOf(m.Header.Type, m.Data); t == TableFirewall || t == TableServices {
				changed[t] = true
			}
		}
		w.notify(changed)
	}
}

func (w *Watcher) notify(changed map[Table]bool) {
	for t := range changed {
		w.p.Notify(t)
	}
}

// tableOf reads which table of family inet a message is about, empty for none.
func tableOf(typ uint16, data []byte) Table {
	// struct nfgenmsg begins with the family.
	if typ>>8 != unix.NFNL_SUBSYS_NFTABLES || typ&0xff == unix.NFT_MSG_NEWGEN ||
		len(data) < nl.SizeofNfgenmsg || data[0] != unix.NFPROTO_INET {
		return ""
	}
	attributes, err := nl.ParseRouteAttr(data[nl.SizeofNfgenmsg:])
	if err != nil {
		return ""
	}
	for _, a := range attributes {
		if a.Attr.Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == nameAttribute {
			return Table(unix.ByteSliceToString(a.Value))
		}
	}
	return ""
}
