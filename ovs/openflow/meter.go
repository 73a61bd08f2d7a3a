// SPDX-License-Identifier: Apache-2.0

package openflow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	of "github.com/contiv/libOpenflow/openflow13"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/ovs/flow"
)

const (
	meterFlagPackets = 1 << 1
	meterFlagBurst   = 1 << 2

	meterBandDrop = 1
	meterBandLen  = 16
	// multipartMeterConfig is OFPMP_METER_CONFIG.
	multipartMeterConfig = 10
)

// meterMod lays out OFPT_METER_MOD (OpenFlow 1.5.1, 7.3.4.5); command is an
// of.OFPMC constant.
func meterMod(command uint16, m flow.Meter) builder {
	return func(xid uint32) ([]byte, error) {
		n := headerLen + 8 + meterBandLen
		if command == of.OFPMC_DELETE {
			n -= meterBandLen
		}
		flags := uint16(meterFlagPackets)
		if m.Burst > 0 {
			flags |= meterFlagBurst
		}
		b := appendHeader(make([]byte, 0, n), of.Type_MeterMod, n, xid)
		b = binary.BigEndian.AppendUint16(b, command)
		b = binary.BigEndian.AppendUint16(b, flags)
		b = binary.BigEndian.AppendUint32(b, m.ID)
		if command == of.OFPMC_DELETE {
			return b, nil
		}
		b = append(b, 0, meterBandDrop, 0, meterBandLen)
		b = binary.BigEndian.AppendUint32(b, m.Rate)
		b = binary.BigEndian.AppendUint32(b, m.Burst)
		return append(b, 0, 0, 0, 0), nil
	}
}

func meterDumpRequest(xid uint32) ([]byte, error) {
	b := appendHeader(nil, of.Type_MultiPartRequest, headerLen+16, xid)
	b = append(b, 0, multipartMeterConfig, 0, 0, 0, 0, 0, 0)
	return append(binary.BigEndian.AppendUint32(b, of.OFPM13_ALL), 0, 0, 0, 0), nil
}

// parseMeters reads meter configurations. One that no flow.Meter can be has
// rate 0.
func parseMeters(body []byte) ([]flow.Meter, error) {
	var out []flow.Meter
	for len(body) > 0 {
		if len(body) < 8 {
			return nil, errShort
		}
		n := int(binary.BigEndian.Uint16(body))
		if n < 8 || n > len(body) {
			return nil, fmt.Errorf("meter configuration of length %d", n)
		}
		m := flow.Meter{ID: binary.BigEndian.Uint32(body[4:])}
		flags := binary.BigEndian.Uint16(body[2:])
		if band := body[8:n]; len(band) == meterBandLen && binary.BigEndian.Uint16(band) == meterBandDrop && flags&meterFlagPackets != 0 {
			m.Rate = binary.BigEndian.Uint32(band[4:])
			if flags&meterFlagBurst != 0 {
				m.Burst = binary.BigEndian.Uint32(band[8:])
			}
		}
		out = append(out, m)
		body = body[n:]
	}
	return out, nil
}

func (c *conn) meters(ctx context.Context) ([]flow.Meter, error) {
	var out []flow.Meter
	err := c.dump(ctx, meterDumpRequest, multipartMeterConfig, func(body []byte) error {
		part, err := parseMeters(body)
		out = append(out, part...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the meters of the switch: %w", err)
	}
	return out, nil
}

// setMeters adds, modifies and deletes meters, which Open vSwitch takes in no
// bundle.
func (c *conn) setMeters(ctx context.Context, change meterChange) error {
	var builders []builder
	for _, part := range []struct {
		command uint16
		meters  []flow.Meter
	}{{of.OFPMC_ADD, change.add}, {of.OFPMC_MODIFY, change.modify}, {of.OFPMC_DELETE, change.remove}} {
		for _, m := range part.meters {
			builders = append(builders, meterMod(part.command, m))
		}
	}
	refused, err := c.untilBarrier(ctx, c.next(), append(builders, plainMessage(of.Type_BarrierRequest)))
	if err == nil && refused != nil {
		err = refused
	}
	if err != nil {
		return fmt.Errorf("change the meters: %w", err)
	}
	return nil
}

// meterChange is a difference of meters.
type meterChange struct{ add, modify, remove []flow.Meter }

func (m meterChange) size() int { return len(m.add) + len(m.modify) + len(m.remove) }

func diffMeters(want, have []flow.Meter) meterChange {
	var change meterChange
	found := map[uint32]flow.Meter{}
	for _, m := range have {
		found[m.ID] = m
	}
	for _, m := range want {
		old, ok := found[m.ID]
		delete(found, m.ID)
		switch {
		case !ok:
			change.add = append(change.add, m)
		case old.Rate != m.Rate || old.Burst != m.Burst:
			change.modify = append(change.modify, m)
		}
	}
	for _, m := range have {
		if _, extra := found[m.ID]; extra {
			change.remove = append(change.remove, m)
		}
	}
	return change
}

// keepMeters makes the meters of the switch those of Params and returns how many
// differed. They come before the flows that use them. A switch without meters
// (a kernel may have none) still gets its flows, which then have no limit.
func (s *session) keepMeters(ctx context.Context) (int, error) {
	want := s.target.params.Meters
	if len(want) == 0 || s.noMeters {
		return 0, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, defaultTimeout, errors.New("the switch does not answer"))
	defer cancel()
	have, err := s.sw.meters(ctx)
	change := diffMeters(want, have)
	if err == nil && change.size() > 0 {
		err = s.sw.setMeters(ctx, change)
	}
	if errors.Is(err, ErrRefused) {
		s.noMeters = true
		klog.FromContext(ctx).Error(err, "The switch has no meters, nothing limits the packets that it reports")
		return 0, nil
	}
	return change.size(), err
}
