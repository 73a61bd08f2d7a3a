// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/compute"
)

// result is what a run took; policy_test.go reads it.
type result struct {
	Wall, CPU   float64 // seconds
	Allocated   float64 // megabytes
	Allocations float64
	Live        float64 // megabytes, without the objects of Kubernetes
	// Latencies of a churn, seconds, one for each event.
	Latencies []float64 `json:",omitempty"`
}

func main() {
	names := strings.Join(slices.Sorted(maps.Keys(workloads)), `", "`)
	name := flag.String("workload", "small namespaces", `"`+names+`"`)
	size := flag.Float64("size", 1, "how much of the workload")
	seconds := flag.Int("churn", 0, "seconds of changes on top")
	profile := flag.String("profile", "", "file for a CPU profile")
	heap := flag.String("heap", "", "file for a profile of allocations")
	flag.Parse()
	fill, known := workloads[*name]
	if !known {
		fmt.Fprintf(os.Stderr, "policyload: workload %q: want one of %q\n", *name, names)
		os.Exit(2)
	}
	if err := measured(fill, *size, *seconds, *profile, *heap); err != nil {
		fmt.Fprintln(os.Stderr, "policyload:", err)
		os.Exit(1)
	}
}

func measured(fill func(*objects, float64), size float64, seconds int, profile, heap string) error {
	if heap != "" {
		runtime.MemProfileRate = 512
	}
	o := &objects{random: rand.New(rand.NewPCG(1, 2)), address: netip.MustParseAddr("10.0.0.1")}
	fill(o, size)
	before := memory()
	stop, err := profileCPU(profile)
	if err != nil {
		return err
	}
	cpu, start := processTime(), time.Now()
	index, computed := load(o)
	r := result{Wall: time.Since(start).Seconds(), CPU: (processTime() - cpu).Seconds()}
	stop()
	if !computed {
		return fmt.Errorf("nothing was computed")
	}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	r.Allocated = float64(after.TotalAlloc-before.TotalAlloc) / 1e6
	r.Allocations = float64(after.Mallocs - before.Mallocs)
	if heap != "" {
		if err := writeHeap(heap); err != nil {
			return err
		}
	}
	live := memory()
	r.Live = (float64(live.HeapAlloc) - float64(before.HeapAlloc)) / 1e6
	if seconds > 0 {
		r.Latencies = churn(index, o, seconds)
	}
	runtime.KeepAlive(o)
	runtime.KeepAlive(index)
	return json.NewEncoder(os.Stdout).Encode(r)
}

// load computes everything from nothing, and reports whether there was anything.
func load(o *objects) (index *compute.Index, computed bool) {
	index = compute.New(compute.Params{Pods: len(o.pods), Namespaces: len(o.namespaces), Policies: len(o.policies)})
	for _, object := range o.namespaces {
		in := kube.PolicyNamespace(object)
		index.UpsertNamespace(&in)
	}
	for _, object := range o.pods {
		in := kube.PolicyPod(object)
		index.UpsertPod(&in)
	}
	for _, object := range o.policies {
		in, _ := kube.NetworkPolicy(object)
		index.UpsertPolicy(in)
	}
	return index, !index.Flush().Empty()
}

// churn creates, relabels and deletes a thousand Pods a second, and returns how
// long each event took until the changes of all nodes were there.
func churn(index *compute.Index, o *objects, seconds int) []float64 {
	const rate = 1000
	var latencies []float64
	var made *corev1.Pod
	next := time.Now()
	for n := range seconds * rate {
		var event func()
		switch at := o.random.IntN(len(o.pods)); n % 3 {
		case 0:
			like := o.pods[at]
			made = o.newPod(like.Namespace, fmt.Sprintf("churn-%d", n), like.Labels)
			event = upsert(index, made)
		case 1:
			made = made.DeepCopy()
			made.Labels = map[string]string{"app-2": "scale-2", "churn": fmt.Sprint(n % 7)}
			o.pods = append(o.pods, made)
			event = upsert(index, made)
		case 2:
			key := policy.PodKey{Namespace: o.pods[at].Namespace, Name: o.pods[at].Name}
			o.pods[at] = o.pods[len(o.pods)-1]
			o.pods = o.pods[:len(o.pods)-1]
			event = func() { index.DeletePod(key) }
		}
		start := next
		if wait := time.Until(next); wait > 0 {
			time.Sleep(wait)
			start = time.Now()
		}
		event()
		index.Flush().Updates(nil)
		latencies = append(latencies, time.Since(start).Seconds())
		next = next.Add(time.Second / rate)
	}
	return latencies
}

func upsert(index *compute.Index, pod *corev1.Pod) func() {
	return func() {
		in := kube.PolicyPod(pod)
		index.UpsertPod(&in)
	}
}

// memory collects garbage and returns what there is.
func memory() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}

// processTime returns what the process took of all CPUs.
func processTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0 // cannot happen with these arguments
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func profileCPU(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	return pprof.StopCPUProfile, pprof.StartCPUProfile(f)
}

func writeHeap(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	runtime.GC() // a profile is that of the last collection
	if err := pprof.Lookup("allocs").WriteTo(f, 0); err != nil {
		return err
	}
	return f.Close()
}
