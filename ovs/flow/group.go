// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// GroupType says how a group uses its buckets (OpenFlow 1.5.1, 5.10.1). The
// values are those of the wire.
type GroupType uint8

// The group types.
const (
	GroupAll GroupType = iota
	GroupSelect
	GroupIndirect
	GroupFastFailover
)

var groupTypes = []string{"all", "select", "indirect", "fast_failover"}

func (t GroupType) String() string {
	if int(t) >= len(groupTypes) {
		return fmt.Sprintf("type%d", uint8(t))
	}
	return groupTypes[t]
}

// Group is one entry of the group table. ID is its identity. A select group
// chooses by a hash that the datapath computes of addresses, protocol and ports
// (selection method dp_hash of ovs-ofctl(8)).
type Group struct {
	ID      uint32
	Type    GroupType
	Buckets []Bucket
}

// Bucket is one alternative of a group. Weight counts in a select group only,
// where a bucket of weight 0 is never chosen. Actions are any number of SetField,
// Move and DecTTL and at the end one of ToGroup, Output, Resubmit and CT: Open
// vSwitch ignores others.
type Bucket struct {
	Weight uint16
	// WatchPort and WatchGroup tie the bucket to the liveness of a port or a
	// group; 0 is none.
	WatchPort, WatchGroup uint32
	Actions               []Action
}

// MaxGroup is the last number a group can have.
const MaxGroup uint32 = 0xffffff00

// String is the group as ovs-ofctl add-group reads it.
func (g Group) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "group_id=%d,type=%v", g.ID, g.Type)
	if g.Type == GroupSelect {
		b.WriteString(",selection_method=dp_hash")
	}
	for _, bk := range g.Buckets {
		b.WriteString(",bucket=")
		if g.Type == GroupSelect {
			fmt.Fprintf(&b, "weight:%d,", bk.Weight)
		}
		if bk.WatchPort != 0 {
			fmt.Fprintf(&b, "watch_port:%d,", bk.WatchPort)
		}
		if bk.WatchGroup != 0 {
			fmt.Fprintf(&b, "watch_group:%d,", bk.WatchGroup)
		}
		b.WriteString("actions=" + formatActions(bk.Actions))
	}
	return b.String()
}

// Equal reports whether g and h are the same.
func (g Group) Equal(h Group) bool {
	return g.ID == h.ID && g.Type == h.Type && slices.EqualFunc(g.Buckets, h.Buckets, func(a, b Bucket) bool {
		return (a.Weight == b.Weight || g.Type != GroupSelect) &&
			a.WatchPort == b.WatchPort && a.WatchGroup == b.WatchGroup && EqualActions(a.Actions, b.Actions)
	})
}

// Check reports everything about g that a switch would refuse and that can be
// known without the switch.
func (g Group) Check() error {
	var errs []error
	if g.ID > MaxGroup {
		errs = append(errs, fmt.Errorf("number is above %d", MaxGroup))
	}
	if int(g.Type) >= len(groupTypes) {
		errs = append(errs, errors.New("unknown type"))
	}
	if g.Type == GroupIndirect && len(g.Buckets) != 1 {
		errs = append(errs, errors.New("an indirect group has one bucket"))
	}
	for i, b := range g.Buckets {
		if err := b.checkActions(); err != nil {
			errs = append(errs, fmt.Errorf("bucket %d: %w", i, err))
		}
		if g.Type == GroupFastFailover && b.WatchPort == 0 && b.WatchGroup == 0 {
			errs = append(errs, fmt.Errorf("bucket %d: fast failover needs something to watch", i))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("group %s: %w", g, err)
	}
	return nil
}

// checkActions refuses, beside actions that are wrong, what Open vSwitch takes
// and then ignores: it does the actions of a bucket as OpenFlow's action set
// (1.5.1, 5.6), which is changes to the packet and then one way to go on.
func (b Bucket) checkActions() error {
	var errs []error
	for i, a := range b.Actions {
		errs = append(errs, checkAction(a))
		switch a.(type) {
		case nil, GotoTable, SetField, Move, DecTTL:
		case ToGroup, Output, Resubmit, CT:
			if i != len(b.Actions)-1 {
				errs = append(errs, fmt.Errorf("%v is not the last action", a))
			}
		default:
			errs = append(errs, fmt.Errorf("%v is ignored in a bucket", a))
		}
	}
	return errors.Join(errs...)
}
