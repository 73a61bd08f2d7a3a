// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"errors"
	"fmt"
)

// MaxMeter is the last number a meter can have (OFPM_MAX).
const MaxMeter uint32 = 0xffff0000

// maxUserdata keeps a Controller action well within a flow mod.
const maxUserdata = 1024

// Meter drops packets above a rate. ID is its identity; 0 is not a meter.
type Meter struct {
	ID uint32
	// Rate is in packets a second, Burst in packets; a burst of 0 leaves it to
	// the switch.
	Rate, Burst uint32
}

// String is the meter as ovs-ofctl add-meter reads it.
func (m Meter) String() string {
	if m.Burst == 0 {
		return fmt.Sprintf("meter=%d pktps bands=type=drop rate=%d", m.ID, m.Rate)
	}
	return fmt.Sprintf("meter=%d pktps burst bands=type=drop rate=%d burst_size=%d", m.ID, m.Rate, m.Burst)
}

// Check reports everything about m that a switch would refuse.
func (m Meter) Check() error {
	var errs []error
	if m.ID == 0 || m.ID > MaxMeter {
		errs = append(errs, fmt.Errorf("number is not in 1..%d", MaxMeter))
	}
	if m.Rate == 0 {
		errs = append(errs, errors.New("rate is 0"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("meter %s: %w", m, err)
	}
	return nil
}
