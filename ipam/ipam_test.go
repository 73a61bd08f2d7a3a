// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	v4   = netip.MustParsePrefix("10.10.1.0/24")
	v6   = netip.MustParsePrefix("fd10:0:0:1::/64")
	tiny = netip.MustParsePrefix("10.10.9.0/29") // three Pods
	dual = []netip.Prefix{v4, v6}
)

func newAllocator(t testing.TB) *Allocator {
	t.Helper()
	a := New(Params{Dir: filepath.Join(t.TempDir(), "ipam")})
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func owner(n int) Owner { return Owner{ContainerID: fmt.Sprintf("c%d", n), IfName: "eth0"} }

func assignment(addr, gateway string) Assignment {
	return Assignment{Addr: netip.MustParseAddr(addr), Gateway: netip.MustParseAddr(gateway)}
}

func allocate(t testing.TB, a *Allocator, o Owner, cidrs ...netip.Prefix) []Assignment {
	t.Helper()
	got, err := a.Allocate(context.Background(), o, cidrs)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// list renders all allocations as text.
func list(t testing.TB, a *Allocator) []string {
	t.Helper()
	all, err := a.List(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, al := range all {
		out = append(out, fmt.Sprintf("%s %v", al.Owner, al.Addrs))
	}
	return out
}

func diff(t *testing.T, what string, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestAllocate(t *testing.T) {
	tests := map[string]struct {
		cidrs []netip.Prefix
		want  []Assignment
	}{
		"dual-stack": {dual, []Assignment{
			assignment("10.10.1.4", "10.10.1.1"), assignment("fd10:0:0:1::4", "fd10:0:0:1::1"),
		}},
		"IPv6 first": {[]netip.Prefix{v6, v4}, []Assignment{
			assignment("fd10:0:0:1::4", "fd10:0:0:1::1"), assignment("10.10.1.4", "10.10.1.1"),
		}},
		"IPv4 only": {[]netip.Prefix{v4}, []Assignment{assignment("10.10.1.4", "10.10.1.1")}},
		"IPv6 only": {[]netip.Prefix{v6}, []Assignment{assignment("fd10:0:0:1::4", "fd10:0:0:1::1")}},
		"host bits": {[]netip.Prefix{netip.MustParsePrefix("10.10.1.77/24")}, []Assignment{assignment("10.10.1.4", "10.10.1.1")}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAllocator(t)
			diff(t, "first", tc.want, allocate(t, a, owner(1), tc.cidrs...))
			diff(t, "again", tc.want, allocate(t, a, owner(1), tc.cidrs...))
		})
	}
}

func TestAllocateRefuses(t *testing.T) {
	tests := map[string]struct {
		cidrs []netip.Prefix
		want  string
	}{
		"no Pod CIDR": {nil, "no Pod CIDR"},
		"too small":   {[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/30")}, "IPv4 Pod CIDR 10.0.0.0/30: has fewer than 8 addresses"},
		"nothing":     {[]netip.Prefix{netip.MustParsePrefix("fd10::1/128")}, "IPv6 Pod CIDR fd10::1/128: has fewer than 8 addresses"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAllocator(t)
			_, err := a.Allocate(context.Background(), owner(1), tc.cidrs)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v does not say %q", err, tc.want)
			}
			diff(t, "allocations", []string(nil), list(t, a))
		})
	}
}

func TestExhaustedTakesNothing(t *testing.T) {
	for name, cidrs := range map[string][]netip.Prefix{"last": {v6, tiny}, "first": {tiny, v6}} {
		t.Run(name, func(t *testing.T) {
			a := newAllocator(t)
			for i := range 3 {
				allocate(t, a, owner(1+i), cidrs...)
			}
			_, err := a.Allocate(context.Background(), owner(5), cidrs)
			if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), "IPv4 Pod CIDR 10.10.9.0/29") {
				t.Errorf("got error %v", err)
			}
			diff(t, "allocations", []string{
				"c1/eth0 [10.10.9.4 fd10:0:0:1::4]", "c2/eth0 [10.10.9.5 fd10:0:0:1::5]",
				"c3/eth0 [10.10.9.6 fd10:0:0:1::6]",
			}, list(t, a))
			if err := a.Release(context.Background(), owner(1)); err != nil {
				t.Fatal(err)
			}
			allocate(t, a, owner(5), cidrs...)
		})
	}
}

func TestWholeRangeOfPods(t *testing.T) {
	a := newAllocator(t)
	seen := map[netip.Addr]bool{}
	for i := range 251 {
		seen[allocate(t, a, owner(i), v4)[0].Addr] = true
	}
	_, err := a.Allocate(context.Background(), owner(999), []netip.Prefix{v4})
	if !errors.Is(err, ErrExhausted) {
		t.Errorf("got error %v", err)
	}
	for _, never := range []string{"10.10.1.0", "10.10.1.1", "10.10.1.2", "10.10.1.3", "10.10.1.255"} {
		if seen[netip.MustParseAddr(never)] {
			t.Errorf("%s was given away", never)
		}
	}
	if len(seen) != 251 {
		t.Errorf("%d different addresses", len(seen))
	}
}

func TestReleasedAddressRests(t *testing.T) {
	a := newAllocator(t)
	first := allocate(t, a, owner(1), dual...)
	if err := a.Release(context.Background(), owner(1)); err != nil {
		t.Fatal(err)
	}
	if err := a.Release(context.Background(), owner(1)); err != nil {
		t.Errorf("second release: %v", err)
	}
	if second := allocate(t, a, owner(2), dual...); second[0] == first[0] || second[1] == first[1] {
		t.Errorf("%v after %v", second, first)
	}
}

func TestPodCIDRChange(t *testing.T) {
	a := newAllocator(t)
	allocate(t, a, owner(1), dual...)
	allocate(t, a, owner(2), dual...)
	diff(t, "in the new CIDR", []Assignment{assignment("10.10.9.4", "10.10.9.1")}, allocate(t, a, owner(1), tiny))
	diff(t, "allocations", []string{
		"c1/eth0 [10.10.9.4]",
		"c2/eth0 [10.10.1.5 fd10:0:0:1::5]",
	}, list(t, a))
}

func TestReserve(t *testing.T) {
	a := newAllocator(t)
	ctx := context.Background()
	taken, free := netip.MustParseAddr("10.10.1.4"), netip.MustParseAddr("fd10:0:0:1::9")
	allocate(t, a, owner(1), v4)
	if err := a.Reserve(ctx, owner(1), []netip.Addr{taken}); err != nil {
		t.Errorf("own address: %v", err)
	}
	err := a.Reserve(ctx, owner(2), []netip.Addr{taken, free})
	if !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "c1/eth0") {
		t.Errorf("got error %v", err)
	}
	diff(t, "allocations", []string{"c1/eth0 [10.10.1.4]", "c2/eth0 [fd10:0:0:1::9]"}, list(t, a))
}

// TestAddressOfServicesHeldFromBefore: earlier versions gave it to Pods, which
// keep it until they go. Then nobody gets it again.
func TestAddressOfServicesHeldFromBefore(t *testing.T) {
	a := newAllocator(t)
	ctx := context.Background()
	held := []netip.Addr{netip.MustParseAddr("10.10.1.2"), netip.MustParseAddr("fd10:0:0:1::2")}
	if err := a.Reserve(ctx, owner(1), held); err != nil {
		t.Fatal(err)
	}
	diff(t, "again", []Assignment{
		assignment("10.10.1.2", "10.10.1.1"), assignment("fd10:0:0:1::2", "fd10:0:0:1::1"),
	}, allocate(t, a, owner(1), dual...))
	if err := a.Release(ctx, owner(1)); err != nil {
		t.Fatal(err)
	}
	diff(t, "after it went", []Assignment{
		assignment("10.10.1.4", "10.10.1.1"), assignment("fd10:0:0:1::4", "fd10:0:0:1::1"),
	}, allocate(t, a, owner(1), dual...))
}

func TestStoreOnDisk(t *testing.T) {
	const id = "0123456789abcdef"
	o := Owner{ContainerID: id, IfName: "eth0"}
	write := func(t *testing.T, a *Allocator, name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		change func(*testing.T, *Allocator)
		want   []string
	}{
		"another process": {func(t *testing.T, a *Allocator) {
			b := New(Params{Dir: a.dir})
			allocate(t, b, owner(1), v4)
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}, []string{id + "/eth0 [10.10.1.4]", "c1/eth0 [10.10.1.5]"}},
		"removed by hand": {func(t *testing.T, a *Allocator) {
			if err := os.Remove(filepath.Join(a.dir, "10.10.1.4")); err != nil {
				t.Fatal(err)
			}
		}, nil},
		"removed as a whole": {func(t *testing.T, a *Allocator) {
			if err := os.RemoveAll(a.dir); err != nil {
				t.Fatal(err)
			}
		}, nil},
		"empty file of a crash": {func(t *testing.T, a *Allocator) {
			write(t, a, "10.10.1.9", "")
			write(t, a, "10.10.1.10", "c9")
		}, []string{id + "/eth0 [10.10.1.4]"}},
		"other files": {func(t *testing.T, a *Allocator) {
			write(t, a, "last_reserved_ip.4", "")
			write(t, a, "README", "hello")
		}, []string{id + "/eth0 [10.10.1.4]"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAllocator(t)
			allocate(t, a, o, v4)
			tc.change(t, a)
			// Some kernels count times of modification in steps of 4 ms.
			later := time.Now().Add(time.Second)
			if err := os.Chtimes(a.dir, later, later); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			diff(t, "allocations", tc.want, list(t, a))
			// The store stays usable, and nothing is given away twice.
			got := allocate(t, a, owner(77), v4)[0].Addr.String()
			if slices.ContainsFunc(tc.want, func(s string) bool { return strings.Contains(s, got+"]") }) {
				t.Errorf("%s was given away twice", got)
			}
			reopened := New(Params{Dir: a.dir})
			diff(t, "after reopening", list(t, a), list(t, reopened))
			if err := reopened.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	a := newAllocator(t)
	var mu sync.Mutex
	seen := map[netip.Addr]int{}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			got, err := a.Allocate(context.Background(), owner(i), dual)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			for _, asg := range got {
				seen[asg.Addr]++
			}
		})
	}
	wg.Wait()
	if len(seen) != 100 {
		t.Errorf("%d different addresses, want 100", len(seen))
	}
}

func TestCancelled(t *testing.T) {
	a := newAllocator(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := a.Allocate(ctx, owner(1), dual); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v", err)
	}
}

func FuzzParseOwner(f *testing.F) {
	for _, seed := range []string{"c1\r\neth0", "c1", "", "\r\n", "c1\r\n", "c1\r\neth0\r\nx", "a\nb\r\nc"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, ok := parseOwner(data)
		if !ok {
			return
		}
		again, ok := parseOwner([]byte(o.ContainerID + "\r\n" + o.IfName))
		if !ok || again != o {
			t.Errorf("%q read back as %q", o, again)
		}
	})
}

// BenchmarkAllocate measures allocation and release of both families on a node
// with so many Pods.
func BenchmarkAllocate(b *testing.B) {
	for _, pods := range []int{0, 110, 240} {
		b.Run(fmt.Sprint(pods), func(b *testing.B) {
			a := newAllocator(b)
			for i := range pods {
				allocate(b, a, owner(i), dual...)
			}
			for b.Loop() {
				allocate(b, a, owner(1000), dual...)
				if err := a.Release(context.Background(), owner(1000)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
