// SPDX-License-Identifier: Apache-2.0

package podlink

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func FuzzParseEvent(f *testing.F) {
	f.Add(make([]byte, unix.SizeofIfInfomsg), true)
	f.Add(append(make([]byte, unix.SizeofIfInfomsg), 8, 0, unix.IFLA_MTU, 0, 0xdc, 5, 0, 0), false)
	f.Fuzz(func(t *testing.T, data []byte, elsewhere bool) {
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.RTM_NEWLINK}, Data: data}
		if e, ok := parseEvent(m, elsewhere); ok && (e.MTU <= 0 || e.Pod != elsewhere) {
			t.Errorf("event %+v", e)
		}
		fromElsewhere(data)
	})
}
