// SPDX-License-Identifier: Apache-2.0

package vsdb

import (
	"maps"
	"slices"

	"github.com/ovn-kubernetes/libovsdb/model"
)

// Change says what has changed. Changes of Pods are told apart from all others,
// because there are many, most of them made by AddPort and DelPort.
type Change struct {
	// Pod is the port of a Pod that is new, different, or gone; nil when it is
	// anything else: the switch, the connection, or everything.
	Pod  *PortStatus
	Gone bool
}

// changeOf tells what the change of a row means; old is nil for a new row, and
// row for one that is gone. It returns false for what other rows tell better: a
// port comes and goes with its interface, and its bridge changes with it.
func changeOf(old, row model.Model) (Change, bool) {
	switch now := row.(type) {
	case *interfaceRow:
		return interfaceChange(now, false), true
	case *portRow:
		return Change{}, false
	case *rootRow:
		before, ok := old.(*rootRow)
		return Change{}, !ok || !slices.Equal(before.Bridges, now.Bridges)
	case *bridgeRow:
		before, ok := old.(*bridgeRow)
		return Change{}, !ok || otherThanPorts(*before, *now)
	case nil:
		switch gone := old.(type) {
		case *interfaceRow:
			return interfaceChange(gone, true), true
		case *portRow:
			return Change{}, false
		}
	}
	return Change{}, true
}

func interfaceChange(row *interfaceRow, gone bool) Change {
	if row.ExternalIDs[OwnerKey] != OwnerPod {
		return Change{}
	}
	status := row.status("")
	return Change{Pod: &status, Gone: gone}
}

// otherThanPorts tells whether bridges differ in anything but their ports.
func otherThanPorts(a, b bridgeRow) bool {
	same := func(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }
	return a.Name != b.Name || a.DatapathType != b.DatapathType || !same(a.FailMode, b.FailMode) ||
		!slices.Equal(a.Protocols, b.Protocols) ||
		!maps.Equal(a.OtherConfig, b.OtherConfig) || !maps.Equal(a.ExternalIDs, b.ExternalIDs)
}
