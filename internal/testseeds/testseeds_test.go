// SPDX-License-Identifier: Apache-2.0

package testseeds

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
)

func TestFirstFailure(t *testing.T) {
	for _, tt := range []struct {
		bad         uint64 // 0: none
		least, most int64  // seeds that are tried
	}{{0, 7, 7}, {1, 1, 7}, {7, 7, 7}} {
		t.Run(fmt.Sprint(tt.bad), func(t *testing.T) {
			var tried [8]atomic.Int64
			seed, err := FirstFailure(7, 7, func(seed uint64) error {
				if tried[seed].Add(1); seed == tt.bad {
					return errors.New("broken")
				}
				return nil
			})
			if seed != tt.bad || (err != nil) != (tt.bad != 0) {
				t.Errorf("seed %d, %v; want %d", seed, err, tt.bad)
			}
			var sum int64
			for seed := range tried {
				n := tried[seed].Load()
				if sum += n; n > 1 {
					t.Errorf("seed %d was tried %d times", seed, n)
				}
			}
			if sum < tt.least || sum > tt.most {
				t.Errorf("%d seeds were tried, want %d to %d", sum, tt.least, tt.most)
			}
		})
	}
}
