// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPorts(t *testing.T) {
	for _, test := range []struct {
		text string
		want ports
		ok   bool
	}{
		{"", nil, true},
		{"80", ports{80}, true},
		{"1,65535", ports{1, 65535}, true},
		{"7,8-10", ports{7, 8, 9, 10}, true},
		{"9-8", nil, false},
		{"0-8", nil, false},
		{"8-", nil, false},
		{"0", nil, false},
		{"65536", nil, false},
		{"80,", nil, false},
		{"http", nil, false},
	} {
		got := ports{1}
		err := got.Set(test.text)
		if (err == nil) != test.ok {
			t.Errorf("%q: error %v", test.text, err)
			continue
		}
		if diff := cmp.Diff(test.want, got); test.ok && diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.text, diff)
		}
		var again ports
		if err := again.Set(got.String()); test.ok && (err != nil || cmp.Diff(got, again) != "") {
			t.Errorf("%q renders as %q", test.text, got.String())
		}
	}
}

func TestRunAllEndsWithTheFirstFailure(t *testing.T) {
	want := errors.New("port in use")
	waits := func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}
	fails := func(context.Context) error { return want }
	if err := runAll(context.Background(), []func(context.Context) error{waits, fails, waits}); !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
