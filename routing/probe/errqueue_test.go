// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func addrPortOf(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// extended is a sock_extended_err with the address of who sent it.
func extended(from netip.Addr, origin, kind, code byte) []byte {
	b := make([]byte, 16, 64)
	b[4], b[5], b[6] = origin, kind, code
	if from.Is4() {
		b = binary.NativeEndian.AppendUint16(b, unix.AF_INET)
		return append(append(append(b, 0, 0), from.AsSlice()...), make([]byte, 8)...)
	}
	b = binary.NativeEndian.AppendUint16(b, unix.AF_INET6)
	return append(append(append(b, make([]byte, 6)...), from.AsSlice()...), make([]byte, 4)...)
}

// control is a control message.
func control(level, kind int32, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(len(data)))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func TestPortUnreachable(t *testing.T) {
	good4 := extended(b4, unix.SO_EE_ORIGIN_ICMP, 3, 3)
	good6 := extended(b6, unix.SO_EE_ORIGIN_ICMP6, 1, 4)
	v4 := func(b []byte) []byte { return control(unix.IPPROTO_IP, unix.IP_RECVERR, b) }
	v6 := func(b []byte) []byte { return control(unix.IPPROTO_IPV6, unix.IPV6_RECVERR, b) }
	for _, test := range []struct {
		name string
		b    []byte
		to   netip.Addr
		want bool
	}{
		{"IPv4", v4(good4), b4, true},
		{"IPv6", v6(good6), b6, true},
		{"after another message", append(control(unix.SOL_SOCKET, unix.SO_TIMESTAMP, make([]byte, 16)), v4(good4)...), b4, true},
		{"none", nil, b4, false},
		{"garbage", []byte{1, 2, 3}, b4, false},
		{"another message", control(unix.IPPROTO_IP, unix.IP_PKTINFO, good4), b4, false},
		{"of a router", v4(extended(a4, unix.SO_EE_ORIGIN_ICMP, 3, 3)), b4, false},
		{"of a router, IPv6", v6(extended(a6, unix.SO_EE_ORIGIN_ICMP6, 1, 4)), b6, false},
		{"host unreachable", v4(extended(b4, unix.SO_EE_ORIGIN_ICMP, 3, 1)), b4, false},
		{"too big", v4(extended(b4, unix.SO_EE_ORIGIN_ICMP, 3, 4)), b4, false},
		{"too big, IPv6", v6(extended(b6, unix.SO_EE_ORIGIN_ICMP6, 2, 0)), b6, false},
		{"our own", v4(extended(b4, unix.SO_EE_ORIGIN_LOCAL, 3, 3)), b4, false},
		{"cut off", v4(good4[:20]), b4, false},
		{"cut off, IPv6", v6(good6[:36]), b6, false},
		{"of nobody", v4(extended(netip.Addr{}, unix.SO_EE_ORIGIN_ICMP, 3, 3)[:16]), netip.Addr{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := portUnreachable(test.b, test.to); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// FuzzExtendedError: whatever it is, only the two kinds of error are it.
func FuzzExtendedError(f *testing.F) {
	f.Add([]byte{})
	f.Add(extended(b4, unix.SO_EE_ORIGIN_ICMP, 3, 3))
	f.Add(extended(b6, unix.SO_EE_ORIGIN_ICMP6, 1, 4))
	f.Add(extended(b6, unix.SO_EE_ORIGIN_ICMP6, 1, 4)[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		if extendedError(b, b4) && [3]byte(b[4:]) != [3]byte{2, 3, 3} {
			t.Fatalf("%x was taken", b)
		}
		if extendedError(b, b6) && [3]byte(b[4:]) != [3]byte{3, 1, 4} {
			t.Fatalf("%x was taken", b)
		}
	})
}
