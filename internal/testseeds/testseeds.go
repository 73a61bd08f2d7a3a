// SPDX-License-Identifier: Apache-2.0

package testseeds

import (
	"cmp"
	"flag"
	"runtime"
	"sync"
	"sync/atomic"
)

var (
	cases = flag.Uint64("cases", 0, "random cases; 0: as many as the test thinks right")
	first = flag.Uint64("seed", 1, "of the first random case")
)

// FirstFailure tries as many seeds as it is told, raced of them under the race
// detector, several at a time until one fails. It returns the seed that failed
// first, and why; the error is nil if none did.
func FirstFailure(normal, raced uint64, try func(seed uint64) error) (seed uint64, err error) {
	if race {
		normal = raced
	}
	count := cmp.Or(*cases, normal)
	var next atomic.Uint64
	var failed atomic.Bool
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for n := next.Add(1) - 1; n < count && !failed.Load(); n = next.Add(1) - 1 {
				if e := try(*first + n); e != nil && failed.CompareAndSwap(false, true) {
					seed, err = *first+n, e
				}
			}
		})
	}
	wait.Wait()
	return seed, err
}
