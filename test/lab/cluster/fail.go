// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/waymark-net/waymark/test/lab/frr"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// Failure is something that can be done to a running lab.
type Failure struct {
	// Kind is its name, Args its arguments in words; one in brackets may be
	// left out, one with dots may be repeated.
	Kind string
	Args string
	Help string

	run func(l *Lab, ctx context.Context, args []string) error
}

// Failures are all kinds, each followed by what repairs it.
func Failures() []Failure {
	return []Failure{
		{"link-down", "LINK", "take a link down at the end nearer to the spine", (*Lab).linkDown},
		{"link-up", "LINK", "take it up again", (*Lab).linkUp},
		{"kill-daemon", "ROUTER DAEMON", "kill zebra, bgpd or bfdd and keep it down", (*Lab).killDaemon},
		{"start-daemon", "ROUTER DAEMON", "start it again", (*Lab).startDaemon},
		{"restart-daemon", "ROUTER DAEMON", "kill a daemon that is started again at once", (*Lab).restartDaemon},
		{"kill-router", "ROUTER", "end a router with its links, as a power failure does", (*Lab).killRouter},
		{"start-router", "ROUTER", "start it again", (*Lab).reviveRouter},
		{"kill-node", "NODE", "end a node with its links, as a power failure does", (*Lab).killNode},
		{"start-node", "NODE", "start it again with what is on its disk", (*Lab).reviveNode},
		{"blackhole", "ROUTER PREFIX...", "make a router drop packets to and from addresses, without telling anyone", (*Lab).blackhole},
		{"blackhole-to", "ROUTER PREFIX...", "make it drop packets to addresses only: those from there pass", (*Lab).blackholeTo},
		{"blackhole-large", "ROUTER BYTES PREFIX...", "make it drop packets of more bytes to and from addresses: an MTU that nobody tells of", (*Lab).blackholeLarge},
		{"heal", "ROUTER", "let it forward everything again", (*Lab).heal},
	}
}

// Fail does one of Failures to the lab.
func (l *Lab) Fail(ctx context.Context, kind string, args ...string) error {
	all := Failures()
	at := slices.IndexFunc(all, func(f Failure) bool { return f.Kind == kind })
	if at < 0 {
		var kinds []string
		for _, f := range all {
			kinds = append(kinds, f.Kind)
		}
		return fmt.Errorf("no failure %q, want one of %s", kind, strings.Join(kinds, ", "))
	}
	f := all[at]
	least := len(strings.Fields(f.Args))
	if len(args) < least || len(args) > least && !strings.HasSuffix(f.Args, "...") {
		return fmt.Errorf("failure %s: got %d arguments, want %s", kind, len(args), f.Args)
	}
	err := l.change(ctx, func() error { return f.run(l, ctx, args) })
	if err != nil {
		return fmt.Errorf("failure %s: %w", kind, err)
	}
	return nil
}

func (l *Lab) withRole(name string, roles ...topology.Role) (topology.Host, error) {
	h, ok := l.Topology.Host(name)
	if !ok || !slices.Contains(roles, h.Role) {
		var names []string
		for _, h := range l.Topology.WithRole(roles...) {
			names = append(names, h.Name)
		}
		return topology.Host{}, fmt.Errorf("%q: want one of %s", name, strings.Join(names, ", "))
	}
	return h, nil
}

func (l *Lab) router(name string) (topology.Host, error) {
	return l.withRole(name, topology.RoleToR, topology.RoleSpine)
}

func (l *Lab) linkDown(ctx context.Context, args []string) error {
	return l.setLink(ctx, args[0], "down")
}

func (l *Lab) linkUp(ctx context.Context, args []string) error { return l.setLink(ctx, args[0], "up") }

// setLink acts at the far end only: the other one loses its carrier, as with a
// cable that is cut, and keeps its routes.
func (l *Lab) setLink(ctx context.Context, name, state string) error {
	link, err := l.link(name)
	if err != nil {
		return err
	}
	_, err = l.Exec(ctx, link.B.Host, "ip", "link", "set", link.B.Interface, state)
	return err
}

func (l *Lab) link(name string) (topology.Link, error) {
	link, ok := l.Topology.Link(name)
	if !ok {
		var names []string
		for _, have := range l.Topology.Links {
			names = append(names, have.Name)
		}
		return topology.Link{}, fmt.Errorf("no link %q, have %s", name, strings.Join(names, ", "))
	}
	return link, nil
}

func (l *Lab) daemon(args []string) (topology.Host, string, error) {
	h, err := l.router(args[0])
	if err != nil {
		return h, "", err
	}
	if !slices.Contains(frr.Daemons(), args[1]) {
		return h, "", fmt.Errorf("no daemon %q, have %s", args[1], strings.Join(frr.Daemons(), ", "))
	}
	return h, args[1], nil
}

func (l *Lab) killDaemon(ctx context.Context, args []string) error {
	h, daemon, err := l.daemon(args)
	if err != nil {
		return err
	}
	return l.attach(h.Name).StopProcess(ctx, daemon, syscall.SIGKILL)
}

func (l *Lab) startDaemon(ctx context.Context, args []string) error {
	h, daemon, err := l.daemon(args)
	if err != nil {
		return err
	}
	return l.startProcess(ctx, h, frr.Process(daemon))
}

func (l *Lab) restartDaemon(ctx context.Context, args []string) error {
	if err := l.killDaemon(ctx, args); err != nil {
		return err
	}
	return l.startDaemon(ctx, args)
}

func (l *Lab) killRouter(ctx context.Context, args []string) error {
	h, err := l.router(args[0])
	if err != nil {
		return err
	}
	return host.Kill(ctx, l.name, h.Name)
}

func (l *Lab) reviveRouter(ctx context.Context, args []string) error {
	h, err := l.router(args[0])
	if err != nil {
		return err
	}
	if err := l.revive(ctx, h); err != nil {
		return err
	}
	return l.startRouter(ctx, h)
}

func (l *Lab) killNode(ctx context.Context, args []string) error {
	h, err := l.withRole(args[0], topology.RoleNode)
	if err != nil {
		return err
	}
	return host.Kill(ctx, l.name, h.Name)
}

func (l *Lab) reviveNode(ctx context.Context, args []string) error {
	h, err := l.withRole(args[0], topology.RoleNode)
	if err != nil {
		return err
	}
	if err := l.revive(ctx, h); err != nil {
		return err
	}
	return l.startNode(ctx, h)
}

// revive starts the host of something that was killed and plugs it in.
func (l *Lab) revive(ctx context.Context, h topology.Host) error {
	if l.attach(h.Name).Ping(ctx) == nil {
		return fmt.Errorf("%s is running", h.Name)
	}
	// What a crash in an earlier attempt may have left.
	if err := host.Kill(ctx, l.name, h.Name); err != nil {
		return err
	}
	if err := l.startHost(ctx, h); err != nil {
		return err
	}
	return l.attachLinks(ctx, h)
}

// dropTable is the nftables table in which a router drops.
const dropTable = "lab_blackhole"

func (l *Lab) blackhole(ctx context.Context, args []string) error {
	return l.drop(ctx, args[0], drops{prefixes: args[1:], from: true})
}

func (l *Lab) blackholeTo(ctx context.Context, args []string) error {
	return l.drop(ctx, args[0], drops{prefixes: args[1:]})
}

func (l *Lab) blackholeLarge(ctx context.Context, args []string) error {
	size, err := strconv.ParseUint(args[1], 10, 16)
	if err != nil || size == 0 {
		return fmt.Errorf("%q is no number of bytes, want 1 to 65535", args[1])
	}
	return l.drop(ctx, args[0], drops{prefixes: args[2:], from: true, above: int(size)})
}

// drop adds to what a router drops.
func (l *Lab) drop(ctx context.Context, router string, d drops) error {
	h, err := l.router(router)
	if err != nil {
		return err
	}
	rules, err := d.rules()
	if err != nil {
		return err
	}
	_, err = l.attach(h.Name).Output(ctx, strings.NewReader(rules), "nft", "-f", "-")
	return err
}

// drops are forwarded packets that a router drops.
type drops struct {
	prefixes []string // or addresses, that packets go to
	from     bool     // or come from
	above    int      // bytes of an IP packet that passes; 0: none passes
}

// rules is an nftables script that drops them in addition to those that are
// dropped already.
func (d drops) rules() (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n\tchain forward {\n\t\ttype filter hook forward priority -300; policy accept;\n", dropTable)
	directions, size := []string{"daddr"}, ""
	if d.from {
		directions = append(directions, "saddr")
	}
	if d.above > 0 {
		size = fmt.Sprintf("meta length > %d ", d.above)
	}
	for _, text := range d.prefixes {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil {
				return "", fmt.Errorf("%q is neither a prefix nor an address", text)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		family := "ip6"
		if prefix.Addr().Is4() {
			family = "ip"
		}
		for _, direction := range directions {
			fmt.Fprintf(&b, "\t\t%s %s %s %scounter drop\n", family, direction, prefix.Masked(), size)
		}
	}
	b.WriteString("\t}\n}\n")
	return b.String(), nil
}

func (l *Lab) heal(ctx context.Context, args []string) error {
	h, err := l.router(args[0])
	if err != nil {
		return err
	}
	// Made first, so that there is something to delete.
	script := fmt.Sprintf("add table inet %[1]s\ndelete table inet %[1]s\n", dropTable)
	_, err = l.attach(h.Name).Output(ctx, strings.NewReader(script), "nft", "-f", "-")
	return err
}
