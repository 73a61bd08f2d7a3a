// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestTableOf(t *testing.T) {
	const newRule = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE
	ours := append([]byte{unix.NFPROTO_INET, 0, 0, 7, 12, 0, 1, 0}, "waymark\x00"...)
	for _, tt := range []struct {
		name string
		typ  uint16
		data []byte
		want Table
	}{
		{"ours", newRule, ours, TableFirewall},
		{"of another family", newRule, append([]byte{unix.NFPROTO_IPV4}, ours[1:]...), ""},
		{"a generation", unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN, ours, ""},
		{"of another subsystem", unix.NFNL_SUBSYS_CTNETLINK << 8, ours, ""},
		{"without attributes", newRule, ours[:4], ""},
		{"cut", newRule, ours[:10], ""},
	} {
		if got := tableOf(tt.typ, tt.data); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzTableOf(f *testing.F) {
	f.Add(append([]byte{unix.NFPROTO_INET, 0, 0, 7, 12, 0, 1, 0}, "waymark\x00"...))
	f.Fuzz(func(_ *testing.T, data []byte) { tableOf(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWRULE, data) })
}
