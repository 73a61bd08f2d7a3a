// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/report"
)

const (
	agentsNodePort = 31050
	switchNodePort = 31051
	// restartRate is how many connections a second are made while agents restart.
	restartRate = 500
	// switchBack is how soon a switch that was restarted must serve again.
	switchBack = 2 * time.Second
)

// checkServiceAgents restarts what programs the switch, and the switch, while
// new connections are made through Services.
func checkServiceAgents(t *testing.T, lab *cluster.Lab) {
	s := newServices(t, lab)
	check(t, "agents killed", func(t *testing.T) {
		_, clients := steadyService(t, s, "restarts-agents", agentsNodePort, "n1", members("b@n1", "b@n2", "b@n3")...)
		tr := startConnects(t, clients, restartRate, "-timeout", answerTime)
		before := map[string]float64{}
		for _, node := range nodeNames(lab) {
			before[node] = agentStart(t, lab, node)
			killAgent(t, lab, node)
		}
		for node, start := range before {
			eventually(t, 90*time.Second, func(ctx context.Context) error { return settled(ctx, lab, node, start) })
		}
		recordAnswered(t, tr.endConnects(t))
	})
	check(t, "switch killed", func(t *testing.T) { checkServiceSwitch(t, s) })
}

// checkServiceSwitch kills the switch of n2 and measures when connections
// through it are answered again, at a ClusterIP from a Pod of n2 and at the
// NodePort of n2 from outside.
//
// The time is from the start of the new process of ovs-vswitchd, as the kernel
// has it, to the end of the first connection begun since which was answered and
// after which none failed. It begins there because the time before is that of
// the kubelet, which sees that a container has ended and starts it again after a
// pause of its own that grows with every restart; from then on everything is the
// product's: its agent has to notice, and to program an empty switch. No
// connection may take longer than 900 ms, so that none spans the outage by
// sending its first packet again.
func checkServiceSwitch(t *testing.T, s *services) {
	const node = "n2"
	_, clients := steadyService(t, s, "restarts-switch", switchNodePort, node, members("b@n2", "b@n3")...)
	tr := startConnects(t, clients, 100, "-timeout", "900ms")
	old := vswitchdStart(t, s.lab, node)
	exec(t, s.lab, node, "sh", "-ec", kill+"kill9 ovs-vswitchd")
	var started time.Time
	eventually(t, 3*time.Minute, func(ctx context.Context) error {
		at, err := processStart(ctx, s.lab, node, "ovs-vswitchd")
		if err == nil && !at.After(old.Add(100*time.Millisecond)) {
			err = fmt.Errorf("the switch of %s is still the old one", node)
		}
		started = at
		return err
	})
	// Long enough to see that it stays, or how late it is.
	for _, c := range clients {
		eventually(t, regained, func(ctx context.Context) error { return answersAll(ctx, t, c) })
	}
	for from, reports := range tr.endConnects(t) {
		for _, r := range reports {
			name := connectionsOf(from, r)
			end, ended := lastOutageEnd(r)
			took := end.Sub(started)
			note := fmt.Sprintf("%.2f s after the new process began; %d of %d failed, outages %v %s", took.Seconds(), r.Failed, r.Made, r.Outages, firstFailure(r))
			t.Logf("%s: %s", name, note)
			record(t,
				report.Check("the switch was away for "+name, r.Failed > 0, note),
				report.Measure("answered again: "+name, took.Seconds(), "s"),
				report.Check("answered again in time: "+name, ended && took <= switchBack, note))
		}
	}
}

func vswitchdStart(t *testing.T, lab *cluster.Lab, node string) time.Time {
	t.Helper()
	at, err := processStart(t.Context(), lab, node, "ovs-vswitchd")
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// processStart is when a program of a node began, as the kernel has it, to a
// hundredth of a second.
func processStart(ctx context.Context, lab *cluster.Lab, node, program string) (time.Time, error) {
	// The 22nd field of stat(5) in proc is in ticks of 10 ms since boot; the name
	// of the program, the second, has no blanks.
	const script = `set -- "$(pgrep -x -o "$1")"; cut -d ' ' -f 22 "/proc/$1/stat"; cut -d ' ' -f 1 /proc/uptime; date +%s.%N`
	out, err := lab.Exec(ctx, node, "sh", "-ec", script, "sh", program)
	if err != nil {
		return time.Time{}, err
	}
	var values []float64
	for text := range strings.FieldsSeq(out) {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("start of %s on %s: %w", program, node, err)
		}
		values = append(values, v)
	}
	if len(values) != 3 {
		return time.Time{}, fmt.Errorf("start of %s on %s: %q", program, node, out)
	}
	age := values[1] - values[0]/100
	return time.Unix(0, int64((values[2]-age)*1e9)), nil
}
