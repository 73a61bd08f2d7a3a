// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/waymark-net/waymark/ovs/flow"
)

// ErrConflict says that two owners declared the same flow or group.
var ErrConflict = errors.New("already declared by another owner")

// ErrRefused says that the switch answered with an error. Nothing of the
// owner's change is in the switch.
var ErrRefused = errors.New("refused by the switch")

// ConflictError is an ErrConflict. Entry is the flow or group in words.
type ConflictError struct {
	Owner, Other string
	Entry        string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s wants %s, which %s has declared", e.Owner, e.Entry, e.Other)
}

// Unwrap makes the error an ErrConflict.
func (e *ConflictError) Unwrap() error { return ErrConflict }

// SwitchError is an error message of the switch (OpenFlow 1.5.1, 7.5.4).
type SwitchError struct {
	Type, Code uint16
	xid        uint32
}

func (e *SwitchError) Error() string {
	name, ok := errorTypes[e.Type]
	if !ok {
		name = fmt.Sprintf("error type %d", e.Type)
	}
	if code, ok := errorCodes[e.Type][e.Code]; ok {
		return name + ": " + code
	}
	return fmt.Sprintf("%s: code %d", name, e.Code)
}

// Unwrap makes the error an ErrRefused.
func (e *SwitchError) Unwrap() error { return ErrRefused }

const errTypeExperimenter = 0xffff

func parseError(msg []byte) *SwitchError {
	e := &SwitchError{xid: parseHeader(msg).xid}
	if len(msg) >= headerLen+4 {
		e.Type = binary.BigEndian.Uint16(msg[headerLen:])
		e.Code = binary.BigEndian.Uint16(msg[headerLen+2:])
	}
	return e
}

// errorTypes and errorCodes name what a switch may say to the messages that
// are sent here.
var errorTypes = map[uint16]string{
	0: "hello failed", 1: "bad request", 2: "bad action", 3: "bad instruction",
	4: "bad match", 5: "flow mod failed", 6: "group mod failed", 7: "port mod failed",
	8: "table mod failed", 12: "meter mod failed", 13: "table features failed", 17: "bundle failed", errTypeExperimenter: "extension error",
}

var errorCodes = map[uint16]map[uint16]string{
	1: {
		0: "version not supported", 1: "unknown type", 2: "unknown multipart type", 3: "unknown experimenter",
		4: "unknown experimenter type", 5: "not permitted", 6: "wrong length", 9: "no such table", 10: "controller is a slave",
		11: "no such port",
	},
	2: {
		0: "unknown action type", 1: "wrong length", 2: "unknown experimenter", 3: "unknown experimenter type",
		4: "no such port", 5: "invalid argument", 6: "not permitted", 7: "too many actions", 9: "no such group",
		10: "action does not fit the match", 12: "invalid tag", 13: "unsupported field in set_field",
		14: "wrong length of the field in set_field", 15: "invalid value in set_field",
	},
	3: {0: "unknown instruction", 1: "unsupported instruction", 2: "no such table", 7: "wrong length", 8: "not permitted"},
	4: {
		0: "unknown match type", 1: "wrong length", 6: "unsupported field", 7: "invalid value", 8: "invalid mask",
		9: "a prerequisite is missing", 10: "field named twice",
	},
	5: {0: "unspecified", 1: "table full", 2: "no such table", 3: "overlaps another flow", 4: "not permitted", 5: "bad timeout", 6: "unknown command", 7: "bad flags"},
	6: {
		0: "group exists", 1: "invalid group", 2: "weights not supported", 3: "out of groups", 4: "out of buckets", 5: "chaining not supported",
		6: "watching not supported", 7: "loop", 8: "no such group", 9: "referenced by another group", 10: "unknown type", 12: "invalid bucket",
	},
	12: {
		0: "unspecified", 1: "meter exists", 2: "invalid meter", 3: "unknown meter", 4: "unknown command", 5: "bad flags",
		6: "bad rate", 7: "bad burst", 8: "bad band", 9: "bad value of a band", 10: "out of meters", 11: "out of bands",
	},
	17: {
		0: "unknown", 1: "not permitted", 2: "no such bundle", 3: "bundle exists", 4: "bundle is closed",
		5: "too many bundles", 6: "unknown control type", 7: "bad flags", 8: "wrong length of a message",
		9: "inconsistent transaction number", 10: "message not supported", 11: "messages conflict",
		12: "too many messages", 13: "a message failed", 14: "timeout", 15: "bundle in progress",
	},
}

// entryError names the flow or group that the switch refused.
type entryError struct {
	op  op
	err error
}

func (e *entryError) Error() string { return e.op.String() + ": " + e.err.Error() }
func (e *entryError) Unwrap() error { return e.err }

func describeFlow(k flow.Key) string { return "flow " + k.String() }

func describeGroup(id uint32) string { return fmt.Sprintf("group %d", id) }
