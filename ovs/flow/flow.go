// SPDX-License-Identifier: Apache-2.0

package flow

// Flow is one OpenFlow 1.5 flow entry as plain data. Two flows with the same
// Table, Priority and Match are the same entry of the switch (OpenFlow 1.5.1,
// section 6.4); Cookie and Actions are what it holds.
type Flow struct {
	Table    uint8
	Priority uint16
	// Cookie identifies the owner (see Target in package openflow); it is not
	// part of the identity.
	Cookie  uint64
	Match   Match
	Actions []Action
}

// Match is a conjunction of fields, each named at most once. Prerequisites
// (eth_type before nw_dst) must be present. The zero Match matches everything.
type Match []FieldMatch

// FieldMatch compares one field of the packet. Value and Mask are in network
// byte order and as long as the field; a nil Mask means an exact match, and
// bits outside the mask must be zero in Value.
type FieldMatch struct {
	Field Field
	Value []byte
	Mask  []byte
}

// Action is one entry of an apply-actions instruction, or GotoTable. The
// concrete types are in this package: Output, OutputReg, Controller, ToGroup,
// GotoTable, Resubmit, SetField, Move, DecTTL, CT, CTClear, Conjunction and
// Learn. To drop is the empty list.
type Action interface {
	// String is the ovs-ofctl(8) text of the action.
	String() string
}
