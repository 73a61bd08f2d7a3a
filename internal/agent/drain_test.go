// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/internal/drain"
	"github.com/waymark-net/waymark/service"
)

// TestDrainer: the loop is asked to run when the time is over, also by an agent
// that began in the middle, and people hear of each phase once.
func TestDrainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "drain.json")
		conf := config.Drain{OnCordon: true, Time: 5 * time.Second}
		var said []string
		marks := make(chan struct{}, 10)
		start := func() *drainer {
			return &drainer{file: file, phase: drain.None, mark: func() { marks <- struct{}{} }, say: func(reason, _ string) { said = append(said, reason) }}
		}
		run := func(d *drainer, why string, want drain.Phase) {
			t.Helper()
			if got := d.look(t.Context(), why, conf); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
			if err := d.told(); err != nil {
				t.Fatal(err)
			}
		}
		begin := time.Now()
		d := start()
		run(d, "", drain.None)
		run(d, "cordoned", drain.Leaving)
		<-marks
		run(d, "cordoned", drain.Leaving)
		time.Sleep(2 * time.Second)
		d.timer.Stop() // with its agent
		d = start()
		run(d, "cordoned", drain.Leaving)
		<-marks
		if took := time.Since(begin); took != conf.Time {
			t.Errorf("asked after %s", took)
		}
		run(d, "cordoned", drain.Withdrawn)
		run(start(), "cordoned", drain.Withdrawn)
		run(d, "", drain.None)
		if diff := cmp.Diff([]string{"ServicesLeaving", "ServicesWithdrawn", "ServicesAnnounced"}, said); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
	})
}

// TestServedAddresses: an agent that starts knows what the one before announced, until
// it knows the Services.
func TestServedAddresses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "served.json")
	marked := 0
	start := func() *servedAddresses { return &servedAddresses{file: file, mark: func() { marked++ }} }
	one := service.Host{
		Announced: []service.Announcement{{
			Key: service.Key{Namespace: "default", Name: "web"}, Addr: addr("203.0.113.1"), Kind: service.LoadBalancerIP, Labels: map[string]string{"app": "web"},
		}},
		Addrs: []netip.Addr{addr("10.96.0.1"), addr("203.0.113.1")},
	}
	check := func(a *servedAddresses, want service.Host) {
		t.Helper()
		got := a.get(t.Context())
		if diff := cmp.Diff(served{want.Announced, want.Addrs}, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if err := a.told(); err != nil {
			t.Error(err)
		}
	}
	a := start()
	check(a, service.Host{})
	a.set(one)
	a.set(one)
	check(a, one)
	a = start()
	check(a, one)
	a.set(service.Host{})
	check(a, service.Host{})
	check(start(), service.Host{})
	if marked != 2 {
		t.Errorf("%d runs of the node loop, want 2", marked)
	}
}
