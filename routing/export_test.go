// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExportAnnounces(t *testing.T) {
	list := ExportRule{Prefixes: []PrefixRule{{Prefix: pfx("10.0.0.0/8"), GE: 16, LE: 24}, {Prefix: pfx("fd10::/32"), LE: 64}}}
	for prefix, want := range map[string]bool{
		"10.10.1.0/24": true, "10.10.0.0/16": true, "10.10.1.0/25": false, "10.0.0.0/8": false, "172.16.0.0/16": false,
		"fd10:0:0:1::/64": true, "fd10::/32": true, "fd10:0:0:1::/65": false, "fd11::/64": false,
	} {
		if got := list.Announces(pfx(prefix)); got != want {
			t.Errorf("%s: %v", prefix, got)
		}
		if !(ExportRule{}).Announces(pfx(prefix)) {
			t.Errorf("%s is not announced without a list", prefix)
		}
	}
	if (ExportRule{Prefixes: list.Prefixes[:1]}).Announces(pfx("fd10::/64")) {
		t.Error("a family without an entry is announced")
	}
}

func TestExportApply(t *testing.T) {
	said := Attributes{Communities: []Community{community(64512, 9)}, LocalPref: 150, MED: new(uint32(50)), Prepend: 2}
	tests := map[string]struct {
		rule ExportRule
		said Attributes
		want Attributes
	}{
		"nothing":                {},
		"only the advertisement": {said: said, want: said},
		"only the peer": {
			rule: ExportRule{Communities: []Community{community(1, 2, 3)}, LocalPref: 7, MED: new(uint32(8)), Prepend: new(9)},
			want: Attributes{Communities: []Community{community(1, 2, 3)}, LocalPref: 7, MED: new(uint32(8)), Prepend: 9},
		},
		"both": {
			rule: ExportRule{Communities: []Community{community(64512, 1), community(64512, 9)}, LocalPref: 50, MED: new(uint32(0)), Prepend: new(0)},
			said: said,
			want: Attributes{Communities: []Community{community(64512, 1), community(64512, 9)}, LocalPref: 50, MED: new(uint32(0))},
		},
	}
	for name, tc := range tests {
		if diff := cmp.Diff(tc.want, tc.rule.Apply(tc.said)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
