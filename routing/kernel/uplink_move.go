// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// UplinkMoverParams are what NewUplinkMover needs.
type UplinkMoverParams struct {
	// NIC is the node's network interface, a port of Bridge.
	NIC string
	// Bridge is the userspace bridge's own interface.
	Bridge string
	// StateFile keeps what was moved, across restarts of agent, switch and node.
	StateFile string
}

// UplinkMover moves the node's addresses and routes between a NIC and the
// userspace bridge that the NIC is a port of.
//
// A NIC in the hands of a userspace switch still gives each packet to the
// kernel as well. The mover makes the kernel deaf there as far as sysctls can
// (no addresses, no IPv6, no forwarding, no ARP answers, strict source check);
// the host firewall drops the rest (package hostfw, Ruleset.SwitchedNICs).
type UplinkMover struct{ p UplinkMoverParams }

// NewUplinkMover makes an UplinkMover.
func NewUplinkMover(p UplinkMoverParams) *UplinkMover { return &UplinkMover{p} }

// deafNIC are the sysctls of a NIC that belongs to a switch; %s is its name.
var deafNIC = [...]sysctl{
	{"net/ipv4/conf/%s/arp_ignore", "8"},
	{"net/ipv4/conf/%s/forwarding", "0"},
	{"net/ipv4/conf/%s/rp_filter", "1"},
	{"net/ipv6/conf/%s/disable_ipv6", "1"},
}

const sysctlRoot = "/proc/sys"

// deaf are the sysctls of the NIC of that name.
func deaf(nic string) []sysctl {
	var out []sysctl
	for _, d := range deafNIC {
		out = append(out, sysctl{fmt.Sprintf(d.path, nic), d.value})
	}
	return out
}

// MoveResult is what Move achieved.
type MoveResult struct {
	Changed bool
	// MTU and MAC are what the bridge is to have.
	MTU int
	MAC string
	// Link counts what was not so of the bridge: MTU, MAC, being up. Sysctls are
	// those of the NIC that were changed.
	Link    int
	Sysctls []string
}

// Move makes the bridge the uplink: it moves what the NIC has, or restores
// what was saved when the switch has made the bridge anew, or finishes a move
// that was interrupted. When all is in place it writes nothing. The NIC should be a port of the bridge already.
//
// Nothing is taken from the NIC before the bridge has all of it. Routes change
// over in place, the agent's own among them.
func (m *UplinkMover) Move(ctx context.Context) (MoveResult, error) {
	var res MoveResult
	nic, bridge, err := m.links()
	if err != nil {
		return res, err
	}
	st, err := loadState(m.p.StateFile)
	if err != nil {
		return res, err
	}
	if st != nil && st.NIC != m.p.NIC {
		return res, fmt.Errorf("moving uplink %s: the addresses of %s are still on %s", m.p.NIC, st.NIC, st.Bridge)
	}
	s := situation{state: st, bridgeIndex: bridge.Attrs().Index, bridgeUp: bridge.Attrs().Flags&net.FlagUp != 0}
	if s.nic, s.bridge, s.bootID, err = m.read(nic, bridge); err != nil {
		return res, err
	}
	want := s.want()
	if !want.usable() {
		return res, fmt.Errorf("moving uplink: neither %s nor %s nor %s has an address", m.p.NIC, m.p.Bridge, m.p.StateFile)
	}
	next := uplinkState{
		Version: stateVersion, NIC: m.p.NIC, Bridge: m.p.Bridge, BootID: s.bootID,
		BridgeIndex: s.bridgeIndex, Config: want.durable(),
	}
	if st != nil && st.BootID == s.bootID {
		next.NICSysctls, next.NICOffloads = st.NICSysctls, st.NICOffloads
	} else if next.NICSysctls, next.NICOffloads, err = readNIC(m.p.NIC); err != nil {
		return res, err
	}
	plan := planMove(want, s.nic, s.bridge)
	res.MTU, res.MAC = want.MTU, want.MAC
	res.Link = b2i(!s.bridgeUp) + b2i(s.bridge.MTU != want.MTU) + b2i(s.bridge.MAC != want.MAC)
	idle := len(plan.addAddresses)+len(plan.putRoutes)+len(plan.dropAddresses)+res.Link == 0
	if idle && st != nil && st.BootID == s.bootID && st.BridgeIndex == next.BridgeIndex && st.Config.equal(next.Config) {
		res.Sysctls, err = m.deafen(ctx)
		res.Changed = len(res.Sysctls) > 0
		return res, err
	}
	if !idle {
		klog.FromContext(ctx).Info("Moving uplink", "nic", m.p.NIC, "bridge", m.p.Bridge,
			"addresses", len(plan.addAddresses), "routes", len(plan.putRoutes))
		moving := next
		moving.BridgeIndex = 0
		if err := saveState(m.p.StateFile, moving); err != nil {
			return res, err
		}
		res.Changed = true
		if err := m.fill(ctx, bridge, want, plan, next.NICSysctls); err != nil {
			return res, fmt.Errorf("moving uplink %s to %s: %w", m.p.NIC, m.p.Bridge, err)
		}
	}
	res.Changed = true
	if err := dropAddresses(nic, plan.dropAddresses); err != nil {
		return res, fmt.Errorf("moving uplink %s to %s: %w", m.p.NIC, m.p.Bridge, err)
	}
	if res.Sysctls, err = m.deafen(ctx); err != nil {
		return res, err
	}
	return res, saveState(m.p.StateFile, next)
}

// Return makes the NIC the uplink again and forgets what was saved. The
// bridge may be gone already. It returns whether there was anything to do.
func (m *UplinkMover) Return(ctx context.Context) (bool, error) {
	st, err := loadState(m.p.StateFile)
	if err != nil || st == nil {
		return false, err
	}
	fail := func(err error) (bool, error) {
		return true, fmt.Errorf("returning uplink from %s to %s: %w", st.Bridge, st.NIC, err)
	}
	nic, err := netlink.LinkByName(st.NIC)
	if err != nil {
		return fail(err)
	}
	klog.FromContext(ctx).Info("Returning uplink", "nic", st.NIC, "bridge", st.Bridge)
	want, from := st.Config, l3Config{}
	bridge, err := netlink.LinkByName(st.Bridge)
	switch {
	case err == nil:
		if from, err = readL3(bridge); err != nil {
			return fail(err)
		}
		if st.BridgeIndex == bridge.Attrs().Index && from.usable() {
			want = from
		}
	case !errors.As(err, &netlink.LinkNotFoundError{}):
		return fail(err)
	}
	var restore []sysctl
	for _, d := range deafNIC {
		path := fmt.Sprintf(d.path, st.NIC)
		if v, ok := st.NICSysctls[path]; ok {
			restore = append(restore, sysctl{path, v})
		}
	}
	if _, err := writeSysctls(ctx, sysctlRoot, restore); err != nil {
		return fail(err)
	}
	if err := writeOffloads(st.NIC, st.NICOffloads); err != nil {
		return fail(err)
	}
	if err := netlink.LinkSetUp(nic); err != nil {
		return fail(fmt.Errorf("set up: %w", err))
	}
	to, err := readL3(nic)
	if err != nil {
		return fail(err)
	}
	plan := planMove(merge(want, to), from, to)
	if err := putL3(nic, plan); err != nil {
		return fail(err)
	}
	if bridge != nil {
		if err := dropAddresses(bridge, plan.dropAddresses); err != nil {
			return fail(err)
		}
	}
	return true, removeState(m.p.StateFile)
}

func (m *UplinkMover) links() (nic, bridge netlink.Link, err error) {
	if nic, err = netlink.LinkByName(m.p.NIC); err != nil {
		return nil, nil, fmt.Errorf("moving uplink: interface %s: %w", m.p.NIC, err)
	}
	if bridge, err = netlink.LinkByName(m.p.Bridge); err != nil {
		return nil, nil, fmt.Errorf("moving uplink: interface %s: %w", m.p.Bridge, err)
	}
	return nic, bridge, nil
}

func (m *UplinkMover) read(nic, bridge netlink.Link) (n, b l3Config, bootID string, err error) {
	if n, err = readL3(nic); err != nil {
		return n, b, "", fmt.Errorf("moving uplink: %w", err)
	}
	if b, err = readL3(bridge); err != nil {
		return n, b, "", fmt.Errorf("moving uplink: %w", err)
	}
	id, err := os.ReadFile(filepath.Join(sysctlRoot, "kernel/random/boot_id"))
	if err != nil {
		return n, b, "", fmt.Errorf("moving uplink: %w", err)
	}
	return n, b, strings.TrimSpace(string(id)), nil
}

// readNIC reads the settings that deafen changes.
func readNIC(nic string) (map[string]string, offloads, error) {
	values := make(map[string]string)
	paths := []string{"net/ipv6/conf/" + nic + "/accept_ra"}
	for _, d := range deafNIC {
		paths = append(paths, fmt.Sprintf(d.path, nic))
	}
	for _, path := range paths {
		if v, err := readSysctl(sysctlRoot, path); err == nil {
			values[path] = v
		}
	}
	off, err := readOffloads(nic)
	return values, off, err
}

// deafen keeps the kernel from hearing a second time on the NIC what the
// switch delivers on the bridge.
func (m *UplinkMover) deafen(ctx context.Context) ([]string, error) {
	changed, err := writeSysctls(ctx, sysctlRoot, deaf(m.p.NIC))
	return changed, errors.Join(err, writeOffloads(m.p.NIC, offloads{}))
}

// fill gives the bridge everything. It stops before it takes anything away.
func (m *UplinkMover) fill(ctx context.Context, bridge netlink.Link, want l3Config, plan movePlan, nicSysctls map[string]string) error {
	if err := writeOffloads(m.p.NIC, offloads{}); err != nil {
		return err
	}
	// Pods are routed through the bridge from the first moment on.
	sysctls := []sysctl{
		{"net/ipv6/conf/" + m.p.Bridge + "/disable_ipv6", "0"},
		{"net/ipv6/conf/" + m.p.Bridge + "/accept_dad", "0"},
		{"net/ipv4/conf/" + m.p.Bridge + "/rp_filter", "2"},
		{"net/ipv4/conf/" + m.p.Bridge + "/forwarding", nicSysctls["net/ipv4/conf/"+m.p.NIC+"/forwarding"]},
		{"net/ipv6/conf/" + m.p.Bridge + "/accept_ra", nicSysctls["net/ipv6/conf/"+m.p.NIC+"/accept_ra"]},
	}
	sysctls = slices.DeleteFunc(sysctls, func(s sysctl) bool { return s.value == "" })
	if _, err := writeSysctls(ctx, sysctlRoot, sysctls); err != nil {
		return err
	}
	if bridge.Attrs().HardwareAddr.String() != want.MAC {
		mac, err := net.ParseMAC(want.MAC)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetHardwareAddr(bridge, mac); err != nil {
			return fmt.Errorf("set MAC %s: %w", want.MAC, err)
		}
	}
	if bridge.Attrs().MTU != want.MTU {
		if err := netlink.LinkSetMTU(bridge, want.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", want.MTU, err)
		}
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return putL3(bridge, plan)
}

// putL3 carries out the part of a plan that adds.
func putL3(link netlink.Link, plan movePlan) error {
	var errs []error
	for _, a := range plan.addAddresses {
		if err := addAddress(link, a); err != nil {
			errs = append(errs, fmt.Errorf("add address %v: %w", a.Prefix, err))
		}
	}
	links := newLinkNames()
	for _, r := range plan.putRoutes {
		nr, err := r.toNetlink(link.Attrs().Index, links)
		if err == nil {
			err = netlink.RouteReplace(nr)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("put route %v metric %d table %d: %w", r.Prefix, r.Metric, r.Table, err))
		}
	}
	return errors.Join(errs...)
}

func dropAddresses(link netlink.Link, addrs []Address) error {
	var errs []error
	for _, a := range addrs {
		na := &netlink.Addr{IPNet: toIPNet(a.Prefix)}
		if a.Peer.IsValid() {
			na.Peer = toIPNet(a.Peer)
		}
		if err := netlink.AddrDel(link, na); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("remove address %v from %s: %w", a.Prefix, link.Attrs().Name, err))
		}
	}
	return errors.Join(errs...)
}
