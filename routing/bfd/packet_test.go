// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// good is a packet with every field its own value.
var good = packet{
	Diagnostic: DiagNeighborSignaled, State: Init, Poll: true, DetectMult: 5,
	Mine: 0x01020304, Yours: 0x05060708,
	DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 60 * time.Millisecond,
}

var goodBytes = []byte{
	0x23, 0xa8, 5, 24, 1, 2, 3, 4, 5, 6, 7, 8,
	0, 0, 0xc3, 0x50, 0, 0, 0xea, 0x60, 0, 0, 0, 0,
}

// with returns the good packet with other bytes, and more behind it.
func with(changes map[int]byte, more ...byte) []byte {
	b := append(bytes.Clone(goodBytes), more...)
	for i, v := range changes {
		b[i] = v
	}
	return b
}

func TestPacketBytes(t *testing.T) {
	if diff := cmp.Diff(goodBytes, good.append(nil)); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	final := good
	final.Poll, final.Final = false, true
	if b := final.append(nil); b[1] != 0x98 {
		t.Errorf("flags with Final: %#x", b[1])
	}
}

func TestParse(t *testing.T) {
	changed := func(f func(*packet)) packet { p := good; f(&p); return p }
	for _, test := range []struct {
		name string
		b    []byte
		want packet
		why  Discard
	}{
		{name: "good", b: goodBytes, want: good},
		{name: "more follows", b: with(nil, 1, 2, 3), want: good},
		{name: "longest intervals", b: with(map[int]byte{12: 0xff, 13: 0xff, 14: 0xff, 15: 0xff}),
			want: changed(func(p *packet) { p.DesiredMinTx = 4294967295 * time.Microsecond })},
		{name: "final", b: with(map[int]byte{1: 0x90}), want: changed(func(p *packet) { p.Poll, p.Final = false, true })},
		{name: "demand", b: with(map[int]byte{1: 0xa2}), want: changed(func(p *packet) { p.Demand = true })},
		{name: "control plane independent", b: with(map[int]byte{1: 0xa8}), want: good},
		{name: "authentication", b: with(map[int]byte{1: 0xa4, 3: 26}, 1, 2), want: changed(func(p *packet) { p.Auth = true })},
		{name: "nothing", why: DiscardLength},
		{name: "short", b: goodBytes[:23], why: DiscardLength},
		{name: "version 0", b: with(map[int]byte{0: 0x03}), why: DiscardVersion},
		{name: "version 2", b: with(map[int]byte{0: 0x43}), why: DiscardVersion},
		{name: "length too small", b: with(map[int]byte{3: 23}), why: DiscardLength},
		{name: "no place for authentication", b: with(map[int]byte{1: 0xa4, 3: 25}, 1), why: DiscardLength},
		{name: "length too big", b: with(map[int]byte{3: 25}), why: DiscardTruncated},
		{name: "multiplier", b: with(map[int]byte{2: 0}), why: DiscardDetectMult},
		{name: "multipoint", b: with(map[int]byte{1: 0xa1}), why: DiscardMultipoint},
		{name: "my discriminator", b: with(map[int]byte{4: 0, 5: 0, 6: 0, 7: 0}), why: DiscardMyDiscriminator},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, why := parse(test.b)
			if got != test.want || why != test.why {
				t.Errorf("got %+v, %q; want %+v, %q", got, why, test.want, test.why)
			}
		})
	}
}

// FuzzParsePacket: whatever is read is written the same again, as far as we
// write it at all, and what is discarded leaves nothing.
func FuzzParsePacket(f *testing.F) {
	f.Add([]byte{})
	f.Add(goodBytes)
	f.Add(goodBytes[:23])
	f.Add(with(map[int]byte{1: 0xa4, 3: 26}, 1, 2))
	f.Add(with(map[int]byte{1: 0xff, 3: 255}, 1, 2))
	f.Add(with(map[int]byte{0: 0, 2: 0}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, why := parse(b)
		if why != "" {
			if p != (packet{}) {
				t.Fatalf("discarded for %s, but %+v", why, p)
			}
			return
		}
		if p.Mine == 0 || p.DetectMult == 0 || int(b[3]) > len(b) {
			t.Fatalf("%x was taken: %+v", b, p)
		}
		p.Auth, p.Demand = false, false
		again, why := parse(p.append(nil))
		if why != "" || again != p {
			t.Fatalf("%+v became %+v, %q", p, again, why)
		}
	})
}
