// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math"
	"strconv"
)

// asnAllowed says in words what ASNUsable lets through.
const asnAllowed = "an AS number 1..4294967294, except the reserved 23456 and 65535"

// ASNUsable reports whether a speaker may use the AS number. 0 (RFC 7607),
// 23456 (RFC 6793), 65535 and 4294967295 (RFC 7300) are reserved.
func ASNUsable(asn uint32) bool {
	switch asn {
	case 0, 23456, math.MaxUint16, math.MaxUint32:
		return false
	}
	return true
}

// NodeASN returns the AS number of a node with the given labels. When the
// label's value is not a usable AS number it returns an error and no fallback:
// a node must not speak with a number that its operator did not choose.
func (b BGP) NodeASN(labels map[string]string) (uint32, error) {
	if b.ASNNodeLabel == "" {
		return b.ASN, nil
	}
	value, ok := labels[b.ASNNodeLabel]
	if !ok {
		return b.ASN, nil
	}
	asn, err := strconv.ParseUint(value, 10, 32)
	if err != nil || !ASNUsable(uint32(asn)) {
		return 0, fmt.Errorf("node label %s=%q: must be %s", b.ASNNodeLabel, value, asnAllowed)
	}
	return uint32(asn), nil
}
