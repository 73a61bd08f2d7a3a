// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
)

// IdentityOf returns the ID of the Identity of Pods of the namespace with the
// labels and the named ports. An agent can find the identity of a new Pod in
// what it has on disk.
func IdentityOf(namespace string, labels map[string]string, ports []NamedPort) ID {
	return IdentityID(AppendIdentity(nil, namespace, labels, ports))
}

// IdentityID returns the ID of what AppendIdentity wrote.
func IdentityID(text []byte) ID { return HashID("identity", text) }

// AppendIdentity appends what tells an Identity from all others.
func AppendIdentity(b []byte, namespace string, labels map[string]string, ports []NamedPort) []byte {
	b = appendString(b, namespace)
	b = binary.AppendUvarint(b, uint64(len(labels)))
	var room [16]string
	keys := room[:0]
	for key := range labels {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		b = appendString(appendString(b, key), labels[key])
	}
	if len(ports) > 1 {
		ports = slices.Clone(ports)
		slices.SortFunc(ports, func(a, b NamedPort) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Number, b.Number))
		})
	}
	for _, p := range ports {
		b = append(appendString(b, p.Name), byte(p.Protocol), byte(p.Number>>8), byte(p.Number))
	}
	return b
}

// HashID returns the ID of a text among those of one kind.
func HashID(kind string, text []byte) ID {
	var room [256]byte
	sum := sha256.Sum256(append(appendString(room[:0], kind), text...))
	return ID(sum[:16])
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
