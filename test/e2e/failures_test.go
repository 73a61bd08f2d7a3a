// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
)

// failures keeps what is needed to find the cause of failures.
var failures failed

type failed struct {
	mu sync.Mutex
	// labs are the names of labs by that of the test that made them.
	labs map[string]string
	// collected are labs of which it is known what they were like. The first
	// failure of a lab counts, as those after it may be its consequences.
	collected map[string]bool
	vain      []string
}

// watch says that a test and its subtests are about a lab.
func (f *failed) watch(t *testing.T, lab string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.labs == nil {
		f.labs, f.collected = map[string]string{}, map[string]bool{}
	}
	f.labs[t.Name()] = lab
}

// collect puts what the lab of a test is like into a folder, and says where.
func (f *failed) collect(ctx context.Context, t *testing.T) {
	root, _, _ := strings.Cut(t.Name(), "/")
	f.mu.Lock()
	name, known := f.labs[root]
	done := f.collected[name]
	if known {
		f.collected[name] = true
	}
	f.mu.Unlock()
	if !known || done {
		return
	}
	lab, err := cluster.Open(name, nil)
	if err != nil {
		t.Log(err)
		return
	}
	dir := filepath.Join(lab.Source, "out/e2e/failures", strings.ReplaceAll(t.Name(), "/", "-"))
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := lab.Collect(ctx, dir); err != nil {
		t.Log(err)
	}
	t.Logf("what lab %s was like is in %s", name, dir)
}

// waited records what a test waited for in vain.
func (f *failed) waited(t *testing.T, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.vain = append(f.vain, fmt.Sprintf("%s: %v", t.Name(), err))
}

// print repeats what tests waited for in vain, since it is far up in the log.
func (f *failed) print(w io.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, line := range f.vain {
		_, _ = fmt.Fprintln(w, "waited in vain:", line)
	}
}
