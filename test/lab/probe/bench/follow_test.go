// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// quick are parameters of a short run.
func quick(at netip.AddrPort, port uint16) FollowParams {
	return FollowParams{
		Address: at, Port: port, Every: time.Millisecond, Timeout: 100 * time.Millisecond, After: 10 * time.Millisecond, Limit: 30 * time.Second,
	}
}

// TestFollow: it ends soon after the port has answered that it waits for.
func TestFollow(t *testing.T) {
	at := servePorts(t, 1)[0]
	params := quick(at, at.Port())
	answered := 0
	params.Answered = func() { answered++ }
	before := time.Now()
	report, err := Follow(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	f, err := report.Follows(Turn{Asked: before, Answered: before, Port: at.Port()})
	if err != nil || !f.Seen || f.First < f.Begun || f.Begun < 0 || f.Made != len(report.Attempts) || f.Old != 0 {
		t.Errorf("%+v of %d attempts, error %v", f, len(report.Attempts), err)
	}
	if took := time.Since(before); took >= params.Limit {
		t.Errorf("took %s, as if nothing had answered", took)
	}
	if answered != 1 {
		t.Errorf("the first answer was told %d times", answered)
	}
}

// busy returns an address that takes one connection, says nothing, and leaves all
// others without an answer.
func busy(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	address := netip.MustParseAddr("127.0.0.1")
	err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: address.As4()}), unix.Listen(fd, 0))
	if err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(address, uint16(at.(*unix.SockaddrInet4).Port))
}

// TestFollowHangs: attempts that hang hold up no other, each ends in its own
// time, and the limit ends all.
func TestFollowHangs(t *testing.T) {
	params := quick(busy(t), 1)
	params.Timeout, params.Limit = 400*time.Millisecond, 300*time.Millisecond
	params.Answered = func() { t.Error("an answer was told") }
	report, err := Follow(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Attempts) < 2 {
		t.Errorf("%d attempts: the first held up all others", len(report.Attempts))
	}
	for _, a := range report.Attempts {
		if a.Port != 0 || a.Error == "" || a.Ended.Sub(a.Begun) < params.Timeout {
			t.Errorf("attempt %+v", a)
		}
	}
}

func TestFollowOtherPort(t *testing.T) {
	at := servePorts(t, 1)[0]
	params := quick(at, at.Port()-1)
	params.Limit = 50 * time.Millisecond
	before := time.Now()
	report, err := Follow(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	f, err := report.Follows(Turn{Asked: before, Answered: before, Port: params.Port})
	if err != nil || f.Seen || f.Old == 0 {
		t.Errorf("%+v, error %v", f, err)
	}
	params.Address, params.Limit = nobody(t), 10*time.Millisecond
	report, err = Follow(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	f, err = report.Follows(Turn{Asked: before, Answered: before, Port: params.Port})
	if err != nil || f.Failed == 0 || f.Failed != f.Made || f.Failure == "" {
		t.Errorf("nobody listens: %+v, error %v", f, err)
	}
}

func TestFollowParams(t *testing.T) {
	good := quick(netip.MustParseAddrPort("127.0.0.1:1"), 1)
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*FollowParams){
		"no port":               func(p *FollowParams) { p.Port = 0 },
		"no pause":              func(p *FollowParams) { p.Every = 0 },
		"no time":               func(p *FollowParams) { p.Timeout = 0 },
		"no limit":              func(p *FollowParams) { p.Limit = 0 },
		"after less than 0":     func(p *FollowParams) { p.After = -1 },
		"as long as a resend":   func(p *FollowParams) { p.Timeout, p.Every = time.Second, time.Second },
		"too many attempts due": func(p *FollowParams) { p.Timeout = (mostDue + 1) * p.Every },
	} {
		params := good
		change(&params)
		if _, err := Follow(t.Context(), params); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestFollows(t *testing.T) {
	const oldPort, newPort = 1, 2
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	attempt := func(begun, ended int, port uint16) Attempt {
		a := Attempt{Begun: at(begun), Ended: at(ended), Port: port}
		if port == 0 {
			a.Error = "refused"
		}
		return a
	}
	turn := Turn{Asked: at(100), Answered: at(110), Port: newPort}
	for name, test := range map[string]struct {
		attempts []Attempt
		want     Followed
		wrong    bool
	}{
		"nothing": {},
		"the switch is slower than the answer": {
			attempts: []Attempt{attempt(90, 92, oldPort), attempt(111, 113, oldPort), attempt(120, 123, newPort), attempt(130, 132, newPort)},
			want:     Followed{Seen: true, First: 13 * time.Millisecond, Begun: 10 * time.Millisecond, Made: 3, Old: 1},
		},
		"the switch is faster than the answer": {
			attempts: []Attempt{attempt(105, 107, newPort), attempt(110, 112, newPort), attempt(111, 113, newPort)},
			want:     Followed{Seen: true, First: 3 * time.Millisecond, Begun: time.Millisecond, Made: 1},
		},
		"the first that was begun is not the first that is answered": {
			attempts: []Attempt{attempt(118, 120, newPort), attempt(112, 130, newPort)},
			want:     Followed{Seen: true, First: 10 * time.Millisecond, Begun: 2 * time.Millisecond, Made: 2},
		},
		"some hang": {
			attempts: []Attempt{attempt(120, 122, newPort), attempt(99, 599, 0), attempt(112, 612, 0), attempt(113, 613, 0)},
			want:     Followed{Seen: true, First: 12 * time.Millisecond, Begun: 10 * time.Millisecond, Made: 3, Failed: 2, Failure: "refused"},
		},
		"the old one again": {
			attempts: []Attempt{attempt(120, 122, newPort), attempt(125, 127, oldPort)},
			want:     Followed{Seen: true, First: 12 * time.Millisecond, Begun: 10 * time.Millisecond, Made: 2, Old: 1},
		},
		"not followed":                 {attempts: []Attempt{attempt(111, 113, oldPort)}, want: Followed{Made: 1, Old: 1}},
		"begun before, answered after": {attempts: []Attempt{attempt(99, 101, newPort)}},
		"the new one was there before": {attempts: []Attempt{attempt(90, 92, newPort)}, wrong: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := FollowReport{Attempts: test.attempts}.Follows(turn)
			if (err != nil) != test.wrong {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
