// SPDX-License-Identifier: Apache-2.0

package podlink

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestDumpLinksReadsAgainWhatChangedMeanwhile(t *testing.T) {
	refused := errors.New("refused")
	for _, test := range []struct {
		name    string
		results []error
		want    error
		reads   int
	}{
		{"at once", []error{nil}, nil, 1},
		{"changed twice", []error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, nil, 3},
		{"refused", []error{refused, nil}, refused, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			reads := 0
			_, err := dumpLinks(func() ([]netlink.Link, error) {
				reads++
				return nil, test.results[reads-1]
			})
			if !errors.Is(err, test.want) || reads != test.reads {
				t.Errorf("error %v after %d reads, want %v after %d", err, reads, test.want, test.reads)
			}
		})
	}
	reads := 0
	_, err := dumpLinks(func() ([]netlink.Link, error) { reads++; return nil, netlink.ErrDumpInterrupted })
	if !errors.Is(err, netlink.ErrDumpInterrupted) || reads != dumpTries {
		t.Errorf("error %v after %d reads, want it to give up after %d", err, reads, dumpTries)
	}
}
