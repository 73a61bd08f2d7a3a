// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"sync"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/service"
)

// served are the addresses of Services. It is immutable.
type served struct {
	// Announced are those that the node may announce, Addrs all.
	Announced []service.Announcement
	Addrs     []netip.Addr
}

// servedAddresses hands the addresses of Services from the Service loop to the node
// loop. They are kept in a file for the time between the start of an agent and when
// it knows the Services: routes that the routers keep for an agent that restarts
// must not be withdrawn because it has not asked yet. The file does not outlive a
// reboot, after which nothing is served.
type servedAddresses struct {
	file string
	// mark asks for a run of the node loop.
	mark func()

	mu     sync.Mutex
	latest *served // nil until the Services are known

	// What follows belongs to the node loop: what the file holds, nil until that is
	// known, and what it will hold.
	kept *served
	next *served
}

// set says what the Services are now.
func (a *servedAddresses) set(host service.Host) {
	now := &served{Announced: host.Announced, Addrs: host.Addrs}
	a.mu.Lock()
	changed := a.latest == nil || !reflect.DeepEqual(a.latest, now)
	if changed {
		a.latest = now
	}
	a.mu.Unlock()
	if changed {
		a.mark()
	}
}

// get returns the addresses as they are, or as they were for an earlier run.
func (a *servedAddresses) get(ctx context.Context) served {
	if a.kept == nil {
		a.kept = &served{}
		if err := readJSON(a.file, a.kept); err != nil {
			klog.FromContext(ctx).Error(err, "What was announced of Services is not known any more")
			a.kept = &served{}
		}
	}
	a.mu.Lock()
	a.next = a.latest
	a.mu.Unlock()
	if a.next == nil {
		return *a.kept
	}
	return *a.next
}

// told keeps what get said last, which the speaker has been told.
func (a *servedAddresses) told() error {
	if a.next == nil || a.next == a.kept {
		return nil
	}
	data, err := json.Marshal(a.next)
	if err != nil {
		return err
	}
	if err := writeFile(a.file, data); err != nil {
		return err
	}
	a.kept = a.next
	return nil
}

// readJSON leaves the value alone when there is no file.
func readJSON(file string, into any) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

func (a *Agent) servedFile() string { return filepath.Join(a.p.RunDir, "served.json") }
