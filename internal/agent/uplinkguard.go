// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"time"

	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/routing/hostfw"
	"github.com/waymark-net/waymark/routing/kernel"
)

const (
	// switchAway is how long a switch that has the node's network may be away until
	// the node gets it back: more than a restart of its container takes.
	switchAway = 3 * time.Second
	// guardInterval is how often it is looked for.
	guardInterval = 250 * time.Millisecond
)

// uplinkGuard gives the node its network back when the userspace switch that has it
// is away. Without it the kubelet could not even learn of the Pod with the next
// switch: the one before ends first when its DaemonSet is upgraded. Pods are without
// a network until there is a switch, which then takes the uplink again as it did at
// first.
type uplinkGuard struct {
	// alive says whether the switch runs, however busy it is.
	alive func(ctx context.Context) bool
	// moved says whether the switch has the uplink, giveBack takes it away.
	moved    func() (bool, error)
	giveBack func(ctx context.Context) error
	// since is when the switch was first not there, zero while it is.
	since time.Time
}

func (a *Agent) newUplinkGuard() *uplinkGuard {
	return &uplinkGuard{
		alive: func(ctx context.Context) bool { return listens(ctx, filepath.Join(a.p.OVSDir, "ovs-vswitchd.ctl")) },
		moved: func() (bool, error) {
			nic, err := kernel.SavedNIC(a.uplinkFile())
			return nic != "", err
		},
		giveBack: a.giveUplinkBack,
	}
}

// run looks until ctx ends.
func (g *uplinkGuard) run(ctx context.Context) error {
	ticker := time.NewTicker(guardInterval)
	defer ticker.Stop()
	for {
		if err := g.look(ctx, time.Now()); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot give the uplink back to the node")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (g *uplinkGuard) look(ctx context.Context, now time.Time) error {
	if moved, err := g.moved(); err != nil || !moved || g.alive(ctx) {
		g.since = time.Time{}
		return err
	}
	if g.since.IsZero() {
		g.since = now
	}
	if away := now.Sub(g.since); away >= switchAway {
		klog.FromContext(ctx).Info("The switch is away, the node gets its uplink back", "for", away.Round(time.Millisecond))
		return g.giveBack(ctx)
	}
	return nil
}

// listens tells whether a process has the socket. One that is busy has it, too.
func listens(ctx context.Context, socket string) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", socket)
	if err != nil {
		var timeout net.Error
		return errors.As(err, &timeout) && timeout.Timeout() // its queue is full
	}
	return conn.Close() == nil
}

// giveUplinkBack makes the NIC the node's uplink and has the kernel hear what comes
// there. Nothing of Pods comes or goes meanwhile.
func (a *Agent) giveUplinkBack(ctx context.Context) error {
	a.uplinkMu.Lock()
	defer a.uplinkMu.Unlock()
	nic, err := kernel.SavedNIC(a.uplinkFile())
	if err != nil || nic == "" {
		return err
	}
	if _, err := a.mover(nic).Return(ctx); err != nil {
		return err
	}
	_, err = a.hostFirewall(a.firewallBackend).Apply(ctx, hostfw.Ruleset{Gateway: vsdb.GatewayPort, SNAT: hostfw.SNATNever})
	return err
}

// switched is the NIC that the userspace switch has, empty if the node has it.
func (a *Agent) switched() string {
	nic, err := kernel.SavedNIC(a.uplinkFile())
	if err != nil {
		return "" // Move says so
	}
	return nic
}
