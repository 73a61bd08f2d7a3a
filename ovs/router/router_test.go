// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// daemon is as much of ovs-vswitchd as the routes need.
type daemon struct {
	routes map[string]string
	did    []string
	// looked, if set, holds up those who wait until the switch has looked at its
	// datapath, which it does when a route is set.
	looked chan struct{}
}

func (d *daemon) call(ctx context.Context, command string, args ...string) (string, error) {
	switch command {
	case "revalidator/wait":
		select {
		case <-d.looked:
			return "", nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	case "ovs/route/show":
		lines := []string{"Route Table:", "Cached: 192.0.2.0/24 dev br-ext SRC 192.0.2.1"}
		for dst, rest := range d.routes {
			lines = append(lines, "User: "+dst+" "+rest)
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n") + "\n", nil
	case "ovs/route/add":
		rest := "dev " + args[1]
		if len(args) > 2 {
			rest += " GW " + args[2]
		}
		if args[1] == "missing" {
			return "", fmt.Errorf("no bridge %s", args[1])
		}
		d.routes[args[0]] = rest + " SRC 192.0.2.1"
	case "ovs/route/del":
		delete(d.routes, args[0])
	}
	d.did = append(d.did, strings.TrimPrefix(command, "ovs/route/")+" "+strings.Join(args, " "))
	return "OK", nil
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestApply(t *testing.T) {
	far, gw := addr("198.51.100.7"), addr("192.0.2.254")
	through := Route{Dst: far, Bridge: "br-ext", Gateway: gw}
	onLink := Route{Dst: addr("192.0.2.2"), Bridge: "br-ext"}
	six := Route{Dst: addr("2001:db8::2"), Bridge: "br-ext"}
	d := &daemon{routes: map[string]string{"203.0.113.1/32": "dev br-ext"}}
	a := New(Params{})
	a.call = d.call
	for i, step := range []struct {
		desired []Route
		did     []string
		kept    int
		wrong   bool
	}{
		{[]Route{through, onLink}, []string{"add 192.0.2.2/32 br-ext", "add 198.51.100.7/32 br-ext 192.0.2.254"}, 1, false},
		{[]Route{through, onLink}, nil, 1, false},
		{[]Route{through, six}, []string{"add 2001:db8::2/128 br-ext"}, 2, false},
		{[]Route{{Dst: far, Bridge: "br-ext"}}, []string{"add 198.51.100.7/32 br-ext"}, 3, false},
		{[]Route{through, {Dst: gw, Bridge: "missing"}}, []string{"add 198.51.100.7/32 br-ext 192.0.2.254"}, 3, true},
		{nil, []string{"del 192.0.2.2/32", "del 198.51.100.7/32", "del 203.0.113.1/32", "del 2001:db8::2/128"}, 0, false},
		{nil, nil, 0, false},
	} {
		d.did = nil
		res, err := a.Apply(t.Context(), step.desired)
		if (err != nil) != step.wrong || res.Kept != step.kept {
			t.Errorf("step %d: %+v, %v", i, res, err)
		}
		if diff := cmp.Diff(step.did, d.did); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestParse(t *testing.T) {
	routes, err := parseRoutes("Route Table:\nCached: ::1/128 dev lo SRC ::1 local\n" +
		"User: 198.51.100.7/32 dev br-ext GW 192.0.2.254 SRC 192.0.2.1\nUser: 10.0.0.0/8 dev br-ext SRC 192.0.2.1\n" +
		"User: 2001:db8::2/128 MARK 3 dev br-ext SRC 2001:db8::1\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Route{
		{Dst: addr("198.51.100.7"), Bridge: "br-ext", Gateway: addr("192.0.2.254")},
		{Dst: addr("2001:db8::2"), Bridge: "br-ext"},
	}
	if d := cmp.Diff(want, routes, cmpopts.EquateComparable(netip.Addr{})); d != "" {
		t.Error(d)
	}
	neighbours, err := parseNeighbours("IP   MAC   Bridge\n=====\n192.0.2.254  02:00:00:00:00:01   br-ext\n")
	if err != nil || len(neighbours) != 1 || neighbours[0].Addr != addr("192.0.2.254") ||
		neighbours[0].MAC.String() != "02:00:00:00:00:01" || neighbours[0].Bridge != "br-ext" {
		t.Errorf("%v, %v", neighbours, err)
	}
	for _, bad := range []string{"User: 1.2.3/32 dev x", "User: 1.2.3.4/32 dev x GW y"} {
		if _, err := parseRoutes(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for _, bad := range []string{"1.2.3 02:00:00:00:00:01 br", "1.2.3.4 02:00 br"} {
		if _, err := parseNeighbours(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("User: 198.51.100.7/32 MARK 3 dev br-ext GW 192.0.2.254 SRC 192.0.2.1\n")
	f.Add("192.0.2.254  02:00:00:00:00:01   br-ext\n")
	f.Add("User: \nUser: ::/0 dev\n")
	f.Fuzz(func(t *testing.T, text string) {
		routes, err := parseRoutes(text)
		if err != nil && routes != nil {
			t.Error("routes beside an error")
		}
		for _, r := range routes {
			if !r.Dst.IsValid() || !r.NextHop().IsValid() {
				t.Errorf("%+v", r)
			}
		}
		_, _ = parseNeighbours(text)
	})
}

// TestSettle has a switch that looks at its datapath only when a route is set.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{routes: map[string]string{}, looked: make(chan struct{})}
		a := New(Params{})
		a.call = func(ctx context.Context, command string, args ...string) (string, error) {
			out, err := d.call(ctx, command, args...)
			if command == "ovs/route/add" && err == nil {
				select {
				case d.looked <- struct{}{}:
				default: // nobody waits
				}
			}
			return out, err
		}
		if _, err := a.Apply(t.Context(), []Route{{Dst: addr("192.0.2.2"), Bridge: "br-ext"}, {Dst: addr("192.0.2.3"), Bridge: "missing"}}); err == nil {
			t.Error("no error for a bridge that is missing")
		}
		began := time.Now()
		if err := a.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 2*nudgeFirst {
			t.Errorf("took %v", took)
		}
		if diff := cmp.Diff([]string{"add 192.0.2.2/32 br-ext", "add 192.0.2.2/32 br-ext", "add 192.0.2.2/32 br-ext"}, d.did); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		// Without a route there is nothing to do but to wait.
		if _, err := a.Apply(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		d.did = nil
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Settle(ctx); !errors.Is(err, context.DeadlineExceeded) || len(d.did) > 0 {
			t.Errorf("%v, %v", err, d.did)
		}
	})
}
