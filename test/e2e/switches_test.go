// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/workload"
	"github.com/waymark-net/waymark/test/report"
)

// inSwitch bounds how long packets may be lost while traffic moves from one path to
// the other.
const inSwitch = 500 * time.Millisecond

// variants are the ways in which traffic can travel.
var variants = []variant{
	{"noEncap", "noEncap", nil},
	{"encap Geneve", "encap", nil},
	{"encap VXLAN", "encap", map[string]string{"tunnel.type": "vxlan"}},
	{"encap Geneve over IPv6", "encap", map[string]string{"tunnel.underlay": "ipv6"}},
	{"encap VXLAN at another port", "encap", map[string]string{"tunnel.type": "vxlan", "tunnel.port": "8472"}},
	{"hybrid", "hybrid", nil},
	{"auto", "auto", nil},
}

// checkSwitches leads the cluster from one mode to another, so many times and in
// random order, under a ping every millisecond and a TCP stream across racks. At last
// it turns round on the way. It ends in noEncap.
func checkSwitches(t *testing.T, lab *cluster.Lab, n int) {
	pods, err := workload.Pods(t.Context(), lab, workload.Namespace, "app=probe-a")
	if err != nil {
		t.Fatal(err)
	}
	from, to := acrossRacks(t, lab, pods)
	tr := startTraffic(t, lab, from, to)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	now := 0
	for i := range n + 1 {
		to := (now + 1 + random.IntN(len(variants)-1)) % len(variants)
		if i == n {
			to = 0
		}
		if to == now {
			continue
		}
		name := fmt.Sprintf("switch %d, from %s to %s", i+1, variants[now].name, variants[to].name)
		began := time.Now()
		switchMode(t, lab, variants[to])
		t.Logf("%s: %s to %s", name, began.Format(clock), time.Now().Format(clock))
		record(t, report.Measure(name, time.Since(began).Seconds(), "s"))
		now = to
	}
	t.Logf("turning round: from %s on", time.Now().Format(clock))
	// A change of mind, in whatever phase it comes.
	if err := workload.ApplyMode(t.Context(), lab, "encap", nil); err != nil {
		t.Fatal(err)
	}
	switchMode(t, lab, variants[0])
	checkQuickMatrix(t, lab, regained)
	tr.end(t, inSwitch)
}
