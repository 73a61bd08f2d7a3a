// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	of "github.com/contiv/libOpenflow/openflow13"
	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/ovs/flow"
)

// TestForgetRefused: an old switch does not know the message, and does not
// understand any of them; the first is named.
func TestForgetRefused(t *testing.T) {
	choice := []flow.Connection{
		{Zone: 7, Protocol: flow.ProtoTCP, Original: flow.Tuple{Dst: netip.MustParseAddrPort("10.0.0.1:80")}},
		{Zone: 0xfff6, Reply: flow.Tuple{Src: netip.MustParseAddrPort("[fd00::1]:0")}},
	}
	forget := func(ctx context.Context, socket string) (*conn, error) {
		return nil, New(Params{Socket: socket}).ForgetConnections(ctx, choice)
	}
	script := func(p *peer) {
		p.send(hello(version))
		first, second := p.next(of.Type_Experimenter), p.next(of.Type_Experimenter)
		for i, want := range []string{
			"00002320" + "00000020" + "0600000000000000" +
				"0000002800000000" + "0001001400000000000000000000ffff0a00000100000000" + "0003000600500000" + "0002000600070000",
			"00002320" + "00000020" + "0000000000000000" +
				"0001002000000000" + "00000014fd00000000000000000000000000000100000000" + "00020006fff60000",
		} {
			if diff := cmp.Diff(want, hex.EncodeToString([][]byte{first, second}[i][headerLen:])); diff != "" {
				t.Errorf("message %d (-want +got):\n%s", i, diff)
			}
		}
		barrier := p.next(of.Type_BarrierRequest)
		xid := func(m []byte) uint32 { return parseHeader(m).xid }
		p.send(message(of.Type_Error, xid(first), 0, 1, 0, 4), message(of.Type_Error, xid(second), 0, 1, 0, 4),
			message(of.Type_BarrierReply, xid(barrier)))
	}
	serveBy(t, forget, script, func(t *testing.T, _ *conn, err error) {
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), choice[0].String()) || !strings.Contains(err.Error(), "unknown experimenter type") {
			t.Errorf("error %v", err)
		}
	})
}

func TestForgetInvalid(t *testing.T) {
	target := New(Params{Socket: "/nonexistent"})
	if err := target.ForgetConnections(t.Context(), nil); err != nil {
		t.Errorf("nothing to forget: %v", err)
	}
	err := target.ForgetConnections(t.Context(), []flow.Connection{{Protocol: flow.ProtoICMP}})
	if err == nil || !strings.Contains(err.Error(), "ICMP cannot be chosen") {
		t.Errorf("error %v", err)
	}
	if err := target.ForgetConnections(t.Context(), []flow.Connection{{Zone: 1}}); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("no switch: %v", err)
	}
}
