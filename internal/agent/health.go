// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
)

// health collects, by part of the agent, why the node is not ready. It is safe
// for use by several goroutines.
type health struct {
	// ready is called when the last part of all has become ready.
	ready func()

	mu      sync.Mutex
	reasons map[string]string
}

func newHealth(ready func(), parts ...string) *health {
	h := &health{ready: ready, reasons: map[string]string{}}
	for _, p := range parts {
		h.reasons[p] = "not done yet"
	}
	return h
}

// set records the reason why a part is not ready; nil says that it is. It
// returns whether that is news.
func (h *health) set(part string, err error) bool {
	news, all := h.record(part, err)
	if news && all {
		h.ready()
	}
	return news
}

// record returns whether that is news, and whether every part is ready.
func (h *health) record(part string, err error) (news, all bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, was := h.reasons[part]
	if err == nil {
		delete(h.reasons, part)
		return was, len(h.reasons) == 0
	}
	h.reasons[part] = err.Error()
	return !was || old != err.Error(), false
}

// err returns nil when every part is ready, else all reasons in one error.
func (h *health) err() error { return h.errOf() }

// errOf is err for some parts; none means all.
func (h *health) errOf(parts ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var lines []string
	for _, part := range slices.Sorted(maps.Keys(h.reasons)) {
		if len(parts) > 0 && !slices.Contains(parts, part) {
			continue
		}
		lines = append(lines, part+": "+strings.ReplaceAll(h.reasons[part], "\n", "; "))
	}
	if len(lines) == 0 {
		return nil
	}
	return errors.New(strings.Join(lines, "\n"))
}
