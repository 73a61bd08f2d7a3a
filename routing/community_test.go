// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func community(parts ...uint32) Community {
	c := Community{Large: len(parts) == 3}
	copy(c.Parts[:], parts)
	return c
}

func TestParseCommunity(t *testing.T) {
	for text, want := range map[string]Community{
		"0:0":                              community(0, 0),
		"65535:65535":                      community(65535, 65535),
		"064512:007":                       community(64512, 7),
		"4200000000:1:2":                   community(4200000000, 1, 2),
		"4294967295:4294967295:4294967295": community(1<<32-1, 1<<32-1, 1<<32-1),
		"65535:6:0":                        community(65535, 6, 0),
		"graceful-shutdown":                community(65535, 0),
		"accept-own":                       community(65535, 1),
		"no-llgr":                          community(65535, 7),
		"blackhole":                        community(65535, 666),
		"no-export":                        community(65535, 65281),
		"no-advertise":                     community(65535, 65282),
		"no-export-subconfed":              community(65535, 65283),
		"no-peer":                          community(65535, 65284),
	} {
		if got, err := ParseCommunity(text); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                  "must be ASN:VALUE",
		"no_export":         "or one of graceful-shutdown, accept-own, no-llgr, blackhole, no-export, no-advertise, no-export-subconfed, no-peer",
		"No-Export":         "must be ASN:VALUE",
		"internet":          "must be ASN:VALUE",
		"65000:x":           `community "65000:x": must be ASN:VALUE`,
		"65000":             "must be ASN:VALUE",
		"65000:-1":          "must be ASN:VALUE",
		"65536:1":           "two numbers up to 65535",
		"1:2:4294967296":    "three numbers up to 4294967295",
		"1:2:3:4":           "must be ASN:VALUE",
		"llgr-stale":        "nodes do not offer long-lived graceful restart",
		"65535:6":           "nodes do not offer long-lived graceful restart",
		"65535:00000000006": "nodes do not offer long-lived graceful restart",
	} {
		if got, err := ParseCommunity(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want error %q", text, got, err, want)
		}
	}
}

// FuzzParseCommunity reads any text; what is accepted reads the same again, and
// is of numbers that fit on the wire.
func FuzzParseCommunity(f *testing.F) {
	for _, text := range []string{"64512:100", "4200000000:1:2", "no-export", "65535:6", "65536:1", "1:2:3:4", ":", "+1:1", "1_0:1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCommunity(text)
		if err != nil {
			return
		}
		if again, err := ParseCommunity(c.String()); err != nil || again != c {
			t.Fatalf("%q is %s, and that is %s, %v", text, c, again, err)
		}
		if !c.Large && (c.Parts[0] > 65535 || c.Parts[1] > 65535 || c.Parts[2] != 0) {
			t.Fatalf("%q is %+v", text, c)
		}
	})
}

func TestUnionCommunities(t *testing.T) {
	a := []Community{community(64512, 2), community(1, 2, 3)}
	b := []Community{community(65535, 65281), community(1, 2, 0), community(64512, 2), community(64512, 1)}
	want := []Community{community(64512, 1), community(64512, 2), community(65535, 65281), community(1, 2, 0), community(1, 2, 3)}
	for range 2 {
		if diff := cmp.Diff(want, UnionCommunities(a, b)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		a, b = b, a
	}
	if a[0] != community(64512, 2) || b[0] != community(65535, 65281) {
		t.Errorf("changed: %v, %v", a, b)
	}
	if got := UnionCommunities(nil, nil); got != nil {
		t.Errorf("of nothing: %v", got)
	}
}
