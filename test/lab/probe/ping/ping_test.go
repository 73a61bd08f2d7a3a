// SPDX-License-Identifier: Apache-2.0

package ping

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestLoopback(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		t.Run(address, func(t *testing.T) {
			report, err := Run(context.Background(), Params{
				Address: netip.MustParseAddr(address), Interval: time.Millisecond,
				Size: 100, Count: 50, Wait: 5 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			if report.Sent != 50 || report.Received != 50 || report.Lost != 0 || report.MaxOutage != 0 || report.Duplicates != 0 {
				t.Errorf("report %+v", report)
			}
		})
	}
}

func TestEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	report, err := Run(ctx, Params{Address: netip.MustParseAddr("127.0.0.1"), Interval: time.Hour, Wait: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if report.Sent != 1 || report.Received != 1 {
		t.Errorf("report %+v", report)
	}
}

func TestReport(t *testing.T) {
	epoch := time.Unix(1000, 0)
	at := func(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }
	type reply struct{ seq, at int }
	for name, test := range map[string]struct {
		sent    []int
		replies []reply
		failed  int
		want    Report
	}{
		"nothing": {want: Report{}},
		"all": {
			sent:    []int{0, 10, 20},
			replies: []reply{{0, 1}, {1, 12}, {2, 23}},
			want: Report{Sent: 3, Received: 3, MaxGap: 11, MaxPause: 10,
				MinRTT: 1, MeanRTT: 2, MaxRTT: 3, Seconds: 0.02},
		},
		"lost in the middle": {
			sent:    []int{0, 10, 20, 30, 40},
			replies: []reply{{0, 1}, {3, 31}, {4, 41}},
			want: Report{Sent: 5, Received: 3, Lost: 2, MaxOutage: 30, MaxGap: 30, MaxPause: 10,
				MinRTT: 1, MeanRTT: 1, MaxRTT: 1, Seconds: 0.04},
		},
		"lost at the end": {
			sent:    []int{0, 10, 20},
			replies: []reply{{0, 1}},
			want: Report{Sent: 3, Received: 1, Lost: 2, MaxOutage: 20, MaxPause: 10,
				MinRTT: 1, MeanRTT: 1, MaxRTT: 1, Seconds: 0.02},
		},
		"all lost, some not even sent": {
			sent: []int{0, 10}, failed: 1,
			want: Report{Sent: 2, Lost: 2, MaxOutage: 10, MaxPause: 10, SendErrors: 1, LastError: "no route", Seconds: 0.01},
		},
		"duplicate, reordered and unknown": {
			sent:    []int{0, 10},
			replies: []reply{{1, 12}, {0, 13}, {0, 14}, {7, 15}},
			want: Report{Sent: 2, Received: 2, Duplicates: 1, Reordered: 1, MaxGap: 1, MaxPause: 10,
				MinRTT: 2, MeanRTT: 7.5, MaxRTT: 13, Seconds: 0.01},
		},
		"the sender stood still": {
			sent:    []int{0, 500},
			replies: []reply{{0, 1}, {1, 501}},
			want: Report{Sent: 2, Received: 2, MaxGap: 500, MaxPause: 500,
				MinRTT: 1, MeanRTT: 1, MaxRTT: 1, Seconds: 0.5},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecorder()
			for _, ms := range test.sent {
				r.sending(at(ms))
			}
			for range test.failed {
				r.failed(errors.New("no route"))
			}
			for _, reply := range test.replies {
				r.received(uint64(reply.seq), at(reply.at))
			}
			if diff := cmp.Diff(test.want, r.report(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOutages(t *testing.T) {
	epoch := time.Unix(1000, 0)
	at := func(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }
	for name, test := range map[string]struct {
		answered string // a request every 10 ms: + was answered, - was not
		least    time.Duration
		want     []Outage
	}{
		"nothing":           {least: time.Millisecond},
		"not asked for":     {answered: "+--+"},
		"none":              {answered: "++++", least: time.Millisecond},
		"in the middle":     {answered: "++--+", least: 20 * time.Millisecond, want: []Outage{{at(20), at(40)}}},
		"too short":         {answered: "++--+", least: 21 * time.Millisecond},
		"two":               {answered: "+--+-+---+", least: 20 * time.Millisecond, want: []Outage{{at(10), at(30)}, {at(60), at(90)}}},
		"from the start":    {answered: "---+", least: 30 * time.Millisecond, want: []Outage{{at(0), at(30)}}},
		"to the end":        {answered: "+---", least: 20 * time.Millisecond, want: []Outage{{From: at(10)}}},
		"short, to the end": {answered: "+--", least: 20 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecorder()
			for seq, c := range test.answered {
				r.sending(at(10 * seq))
				if c == '+' {
					r.received(uint64(seq), at(10*seq+1))
				}
			}
			if diff := cmp.Diff(test.want, r.outages(test.least)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
