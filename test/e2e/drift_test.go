// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/drift"
	"github.com/waymark-net/waymark/test/bench/measure"
	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

const (
	// repairedWithin bounds a repair, generously; repairAim is what it should take
	// in 99 of 100 cases.
	repairedWithin = 10 * time.Second
	repairAim      = time.Second
)

// disturbance is a small thing done to a node by hand.
type disturbance struct {
	kind drift.Kind
	// what it is; look prints what it changes; do changes it, and may use $port
	// and $netns: the interface of a Pod, and the namespace of one.
	what, look, do string
}

const (
	ofctl      = "ovs-ofctl -O OpenFlow15 "
	lookFlows  = ofctl + "--no-stats dump-flows " + brInt + " | sort"
	lookGroups = ofctl + "dump-groups " + brInt + " | sort; " + lookFlows
	lookLink   = "ip -o link show dev %s | grep -oE 'mtu [0-9]+|[<,]UP[,>]'"
)

func disturbances() []disturbance {
	out := []disturbance{
		{drift.Flows, "all flows deleted", lookFlows, ofctl + "del-flows " + brInt},
		{drift.Flows, "flows of an owner deleted", lookFlows,
			ofctl + "del-flows " + brInt + " cookie=$(" + ofctl + "--no-stats dump-flows " + brInt + " | grep -oE 'cookie=0x[0-9a-f]+' | cut -c8- | sort -u | shuf -n1)/-1"},
		{drift.Groups, "group deleted", lookGroups,
			ofctl + "del-groups " + brInt + " group_id=$(" + ofctl + "dump-groups " + brInt + " | grep -oE 'group_id=[0-9]+' | cut -c10- | shuf -n1)"},
		{drift.Links, "MTU of the gateway", fmt.Sprintf(lookLink, "wm-gw0"), "ip link set wm-gw0 mtu 1300"},
		{drift.Links, "MTU of the uplink", fmt.Sprintf(lookLink, "br-ext"), "ip link set br-ext mtu 1300"},
		{drift.Links, "gateway down", fmt.Sprintf(lookLink, "wm-gw0"), "ip link set wm-gw0 down"},
		{drift.Neighbours, "neighbours deleted", "ip neighbour show dev wm-gw0 nud permanent | sort", "ip neighbour flush dev wm-gw0 nud permanent"},
		{drift.Firewall, "table deleted", "nft list table inet waymark | sed 's/packets [0-9]* bytes [0-9]*//'", "nft delete table inet waymark"},
		{drift.Pods, "MTU of a Pod's host end", fmt.Sprintf(lookLink, "$port"), "ip link set $port mtu 1300"},
		{drift.Pods, "a Pod's host end down", fmt.Sprintf(lookLink, "$port"), "ip link set $port down"},
		{drift.Pods, "MTU in a Pod", "nsenter --net=$netns ip -o link show dev eth0 | grep -oE 'mtu [0-9]+'", "nsenter --net=$netns ip link set eth0 mtu 1300"},
	}
	for _, family := range []string{"-4", "-6"} {
		routes := "ip " + family + " route show proto 87"
		out = append(out,
			disturbance{drift.Routes, "route deleted " + family, routes + " | sort",
				"ip " + family + " route del $(" + routes + " | grep -oE '^[0-9a-f.:/]+' | shuf -n1) proto 87"},
			disturbance{drift.Addresses, "addresses of the gateway " + family, "ip -o " + family + " address show dev wm-gw0 scope global | sort",
				"ip " + family + " address flush dev wm-gw0 scope global"})
	}
	for _, s := range []string{
		"ipv4/conf/wm-gw0/forwarding 0", "ipv4/conf/wm-gw0/rp_filter 1", "ipv4/conf/br-ext/ignore_routes_with_linkdown 0",
		"ipv4/conf/all/forwarding 0", "ipv6/conf/all/forwarding 0", "ipv6/conf/wm-gw0/accept_ra 1", "ipv6/conf/wm-gw0/disable_ipv6 1",
	} {
		path, value, _ := strings.Cut(s, " ")
		look := "cat /proc/sys/net/" + path
		if path == "ipv4/conf/all/forwarding" { // ours are those of the interfaces
			look = "cat /proc/sys/net/ipv4/conf/wm-gw0/forwarding /proc/sys/net/ipv4/conf/br-ext/forwarding"
		}
		out = append(out, disturbance{drift.Sysctls, "sysctl " + s, look, "echo " + value + " > /proc/sys/net/" + path})
	}
	return out
}

// timed is a script that disturbs and prints after how many milliseconds all was as
// before. It fails when it does not see anything before or the time is over.
func (d disturbance) timed() string {
	return podPort + fmt.Sprintf(`
port=$(port)
netns=$(grep -hoE '"netns": *"[^"]+"' /var/run/waymark/attachments/* | head -n1 | cut -d'"' -f4)
look() { { %s; } 2>/dev/null; }
now() { date +%%s%%N; }
before=$(look)
test -n "$before"
%s
begun=$(now)
until test "$(look)" = "$before"; do
  if test $(( ($(now) - begun) / 1000000 )) -gt %d; then look >&2; exit 1; fi
  sleep 0.01
done
echo $(( ($(now) - begun) / 1000000 ))`, d.look, d.do, repairedWithin.Milliseconds())
}

// checkDrift disturbs a random node in a random way once a second, and records how
// long it took until all was as before, by kind. It lasts for so long.
func checkDrift(t *testing.T, lab *cluster.Lab, lasts time.Duration) {
	nodes, all := nodeNames(lab), disturbances()
	before := repairsByKind(t, lab, nodes)
	pods, err := workload.Pods(t.Context(), lab, workload.Namespace, "app=probe-a")
	if err != nil {
		t.Fatal(err)
	}
	from, to := acrossRacks(t, lab, pods)
	tr := startTraffic(t, lab, from, to)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	times := map[drift.Kind][]float64{}
	// Every one once before any a second time.
	var order []int
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < lasts || len(times) < 8; <-tick.C {
		if len(order) == 0 {
			order = rng.Perm(len(all))
		}
		d, node := all[order[0]], nodes[rng.IntN(len(nodes))]
		order = order[1:]
		out, err := lab.Exec(t.Context(), node, "sh", "-ec", d.timed())
		if err != nil {
			t.Errorf("%s on %s is not repaired: %v", d.what, node, err)
			continue
		}
		ms, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s on %s: %s, repaired after %g ms", d.kind, node, d.what, ms)
		times[d.kind] = append(times[d.kind], ms)
	}
	tr.end(t, repairedWithin)
	after := repairsByKind(t, lab, nodes)
	var every []float64
	for _, kind := range slices.Sorted(maps.Keys(times)) {
		list := times[kind]
		every = append(every, list...)
		// Flows go with the groups that they name, and come back with them.
		if after[kind] <= before[kind] {
			t.Errorf("no repair of %s was counted", kind)
		}
		recordRepairs(t, string(kind), list)
	}
	recordRepairs(t, "all kinds", every)
	t.Logf("the aim is %s in 99 of 100 cases", repairAim)
}

func recordRepairs(t *testing.T, name string, ms []float64) {
	t.Helper()
	p50, p99, longest := measure.Quantile(ms, 0.5), measure.Quantile(ms, 0.99), slices.MaxFunc(ms, cmp.Compare[float64])
	t.Logf("%-11s %3d repairs, ms: p50 %5.0f, p99 %5.0f, max %5.0f", name, len(ms), p50, p99, longest)
	row := report.Measure("time to repair "+name+", p99", p99, "ms").Beside(float64(repairAim.Milliseconds()))
	row.Note = fmt.Sprintf("of %d, p50 %.0f ms, max %.0f ms, beside the aim", len(ms), p50, longest)
	record(t, row)
}

// repairsByKind sums what the agents count.
func repairsByKind(t *testing.T, lab *cluster.Lab, nodes []string) map[drift.Kind]float64 {
	t.Helper()
	out := map[drift.Kind]float64{}
	for _, node := range nodes {
		m, err := agent.metrics(t.Context(), lab, node)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range drift.Kinds() {
			out[kind] += m.sum("waymark_drift_repairs_total", `kind="`+string(kind)+`"`)
		}
	}
	return out
}
