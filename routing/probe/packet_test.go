// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// good is a packet with every field its own value.
var good = packet{Type: typeRequest, Kind: full, Flow: 3, Nonce: 0x0102030405060708, Seq: 0x090a0b0c, Length: 26}

var goodBytes = []byte{
	'W', 'M', 'P', 'B', 1, 1, 1, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 26, 0, 0, 0, 0,
}

// with returns the good datagram with other bytes.
func with(changes map[int]byte) []byte {
	b := bytes.Clone(goodBytes)
	for i, v := range changes {
		b[i] = v
	}
	return b
}

func TestPacketBytes(t *testing.T) {
	if diff := cmp.Diff(goodBytes, good.bytes()); diff != "" {
		t.Errorf("written (-want +got):\n%s", diff)
	}
	b := good.bytes()
	reply(b)
	if diff := cmp.Diff(with(map[int]byte{5: typeReply}), b); diff != "" {
		t.Errorf("reply (-want +got):\n%s", diff)
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name string
		b    []byte
		want packet
		why  Discard
	}{
		{name: "good", b: goodBytes, want: good},
		{name: "nothing", why: DiscardLength},
		{name: "short", b: goodBytes[:23], why: DiscardLength},
		{name: "cut off", b: goodBytes[:25], why: DiscardLength},
		{name: "longer than it says", b: append(bytes.Clone(goodBytes), 0), why: DiscardLength},
		{name: "something else", b: with(map[int]byte{0: 'w'}), why: DiscardMagic},
		{name: "version", b: with(map[int]byte{4: 2}), why: DiscardVersion},
		{name: "type 0", b: with(map[int]byte{5: 0}), why: DiscardType},
		{name: "type 3", b: with(map[int]byte{5: 3}), why: DiscardType},
		{name: "kind", b: with(map[int]byte{6: 2}), why: DiscardType},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, why := parse(test.b)
			if got != test.want || why != test.why {
				t.Errorf("got %+v, %q; want %+v, %q", got, why, test.want, test.why)
			}
		})
	}
}

// FuzzParse: whatever is read is written the same again, up to what is not looked
// at, and what is discarded leaves nothing.
func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	f.Add(goodBytes)
	f.Add(goodBytes[:23])
	f.Add(with(map[int]byte{5: typeReply, 24: 7}))
	f.Add(with(map[int]byte{20: 0xff, 21: 0xff}))
	f.Add(with(map[int]byte{6: 9, 7: 255}))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, why := parse(b)
		if why != "" {
			if p != (packet{}) {
				t.Fatalf("discarded for %s, but %+v", why, p)
			}
			return
		}
		if p.Length != len(b) || p.Kind >= kinds {
			t.Fatalf("%x was taken: %+v", b, p)
		}
		if again := p.bytes(); !bytes.Equal(again[:22], b[:22]) || len(again) != len(b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}
