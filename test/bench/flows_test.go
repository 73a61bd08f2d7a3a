// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/ovstest"
	"github.com/waymark-net/waymark/policy/flows"
	"github.com/waymark-net/waymark/test/bench/flowload"
	"github.com/waymark-net/waymark/test/report"
)

var flowSizes = flag.String("sizes", "100,1000,10000,100000", "addresses and rules that are put into a switch, multiples of 100")

const (
	flowBridge = "br-int"
	// flowChanges is how many times a round changes one address.
	flowChanges = 20
	// comparedFlows is the largest size for which the flows of both sides are
	// compared one by one; of others the number is.
	comparedFlows = 1000
	// flowPatience is what one step may take at most.
	flowPatience = 5 * time.Minute
)

// Sides that are compared.
const (
	sideOwn   = "agent"
	sideLimit = "ovs-ofctl"
)

// flowSeries is one thing that is measured.
type flowSeries struct {
	load       flowload.Load
	side, what string
}

// TestFlows measures how the agent's part puts policies into Open vSwitch beside
// ovs-ofctl with the same flows.
func TestFlows(t *testing.T) { testnet.Run(t, measureFlows) }

func measureFlows(t *testing.T, _ *testnet.Namespace) {
	r := begin(t, "flows")
	b := &flowBench{t: t, ovs: ovstest.StartOVS(t), got: samples[flowSeries]{}}
	b.ovs.AddBridge(flowBridge, ovstest.DatapathNetdev)
	for _, text := range strings.Split(*flowSizes, ",") {
		size, err := strconv.Atoi(text)
		if err != nil || size <= 0 || size%100 != 0 {
			t.Fatalf("-sizes: %q: want multiples of 100", text)
		}
		b.measure(flowload.Load(size))
		r.Add(b.rows(flowload.Load(size))...)
	}
	write(t, r)
}

// flowBench measures on one switch, which is without flows in between.
type flowBench struct {
	t   *testing.T
	ovs *ovstest.OVS
	got samples[flowSeries]
}

// flowScript is what ovs-ofctl reads, one file a bundle.
type flowScript struct {
	install, remove string
	changes         []string
	flows           int // after install
}

func (b *flowBench) measure(load flowload.Load) {
	script := b.script(load)
	b.limit(load, script, false) // the switch asks the system for memory once
	for round := range *rounds {
		sides := []func() string{
			func() string { return b.own(load, script) },
			func() string { return b.limit(load, script, true) },
		}
		if round%2 == 1 {
			slices.Reverse(sides)
		}
		first, second := sides[0](), sides[1]()
		if diff := cmp.Diff(first, second); diff != "" {
			b.t.Fatalf("%s: both sides have not the same flows:\n%s", load, diff)
		}
	}
}

// script writes the bundles; they are the same in every round.
func (b *flowBench) script(load flowload.Load) flowScript {
	b.t.Helper()
	dir, engine := b.t.TempDir(), flows.New(flows.Params{})
	files := 0
	save := func(p flows.Patch) string {
		files++
		path := filepath.Join(dir, strconv.Itoa(files))
		if err := os.WriteFile(path, flowload.Bundle(p), 0o600); err != nil {
			b.t.Fatal(err)
		}
		return path
	}
	install := engine.Apply(load.Install())
	s := flowScript{install: save(install), flows: flowload.Size(install)}
	for n := range flowChanges {
		s.changes = append(s.changes, save(engine.Apply(load.OneMore(n))))
	}
	s.remove = save(engine.Apply(load.Remove()))
	return s
}

// limit has ovs-ofctl do everything, and returns what the switch had.
func (b *flowBench) limit(load flowload.Load, s flowScript, counts bool) (dump string) {
	b.t.Helper()
	step := func(what, file string) float64 {
		runtime.GC()
		start := time.Now()
		b.ofctl(file)
		took := time.Since(start).Seconds()
		if counts {
			b.got.add(flowSeries{load, sideLimit, what}, took)
		}
		return took
	}
	step("install", s.install)
	dump = b.look(load, s.flows)
	for _, file := range s.changes {
		step("change", file)
	}
	step("remove", s.remove)
	b.look(load, 0)
	return dump
}

func (b *flowBench) ofctl(file string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), flowPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ovs-ofctl", "-O", "OpenFlow13", "--bundle",
		"add-flows", "unix:"+b.ovs.Socket(flowBridge), file).CombinedOutput()
	if err != nil {
		b.t.Fatalf("ovs-ofctl: %v\n%s", err, out)
	}
}

// own has the agent's part do everything, and returns what the switch had.
func (b *flowBench) own(load flowload.Load, s flowScript) (dump string) {
	b.t.Helper()
	target, stop := b.target()
	defer stop()
	before := liveHeap()
	engine := flows.New(flows.Params{})
	step := func(what string, change flows.Change) {
		runtime.GC()
		ctx, cancel := context.WithTimeout(b.t.Context(), flowPatience)
		defer cancel()
		start := time.Now()
		patch := engine.Apply(change)
		derived := time.Since(start)
		if err := target.Patch(patch.Changes...); err != nil {
			b.t.Fatal(err)
		}
		if err := target.Sync(ctx, patch.Owners()...); err != nil {
			b.t.Fatal(err)
		}
		b.got.add(flowSeries{load, sideOwn, what}, time.Since(start).Seconds())
		b.got.add(flowSeries{load, sideOwn, what + " in the engine"}, derived.Seconds())
	}
	step("install", load.Install())
	b.got.add(flowSeries{load, sideOwn, "memory"}, liveHeap()-before)
	b.got.add(flowSeries{load, sideOwn, "flows"}, float64(target.Stats().Flows))
	dump = b.look(load, s.flows)
	for n := range flowChanges {
		step("change", load.OneMore(n))
	}
	step("remove", load.Remove())
	b.look(load, 0)
	return dump
}

// target starts a Target of the switch, which has no flows.
func (b *flowBench) target() (target *openflow.Target, stop func()) {
	b.t.Helper()
	target = openflow.New(openflow.Params{Socket: b.ovs.Socket(flowBridge)})
	target.Complete()
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error, 1)
	go func() { done <- target.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			b.t.Errorf("Run: %v", err)
		}
	}
	limit, end := context.WithTimeout(ctx, flowPatience)
	defer end()
	if err := target.WaitReady(limit); err != nil {
		stop()
		b.t.Fatal(err)
	}
	return target, stop
}

// look checks how many flows the switch has, and returns them if they are few.
func (b *flowBench) look(load flowload.Load, want int) string {
	b.t.Helper()
	text := b.ovs.Ofctl("dump-aggregate", b.ovs.Socket(flowBridge))
	if !strings.Contains(text, fmt.Sprintf("flow_count=%d\n", want)) {
		b.t.Fatalf("%s: want %d flows, the switch has: %s", load, want, text)
	}
	if load > comparedFlows {
		return text[strings.Index(text, "flow_count="):]
	}
	return b.ovs.Dump(flowBridge)
}

// rows are what was found with one size.
func (b *flowBench) rows(load flowload.Load) []report.Row {
	median := func(side, what string) float64 { return b.got.median(flowSeries{load, side, what}) }
	count := median(sideOwn, "flows")
	perSecond := func(what string) report.Row {
		row := report.Measure(fmt.Sprintf("%s %s", what, load), count/median(sideOwn, what), "flows/s").
			Beside(count / median(sideLimit, what))
		row.Note = fmt.Sprintf("%.0f flows in %.3f s, %.3f s of them in the engine",
			count, median(sideOwn, what), median(sideOwn, what+" in the engine"))
		return row
	}
	change := report.Measure(fmt.Sprintf("change one of %s", load), 1e3*median(sideOwn, "change"), "ms").
		Beside(1e3 * median(sideLimit, "change"))
	change.Note = fmt.Sprintf("%.3f ms of them in the engine", 1e3*median(sideOwn, "change in the engine"))
	memory := report.Measure(fmt.Sprintf("memory of %s", load), median(sideOwn, "memory")/1e6, "MB")
	memory.Note = fmt.Sprintf("%.0f bytes a flow", median(sideOwn, "memory")/count)
	return []report.Row{perSecond("install"), change, perSecond("remove"), memory}
}

// liveHeap collects garbage and returns the bytes that are in use.
func liveHeap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
