// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/waymark-net/waymark/test/lab/fabric"
	"github.com/waymark-net/waymark/test/lab/frr"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/kubernetes"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// forEach runs something for all hosts at once and joins what goes wrong.
func forEach(hosts []topology.Host, run func(topology.Host) error) error {
	errs := make([]error, len(hosts))
	var group sync.WaitGroup
	for i, h := range hosts {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := run(h); err != nil {
				errs[i] = fmt.Errorf("%s: %w", h.Name, err)
			}
		}()
	}
	group.Wait()
	return errors.Join(errs...)
}

// startHost starts the namespaces and the init of a host.
func (l *Lab) startHost(ctx context.Context, h topology.Host) error {
	spec := host.Spec{
		Lab: l.name, Name: h.Name, StateDir: l.hostState(h.Name), DataDir: l.hostData(h.Name),
		Sysctls: fabric.Sysctls(h.Role),
	}
	switch {
	case h.Router():
		files, err := frr.Files(l.Topology, h.Name)
		if err != nil {
			return err
		}
		spec.PrivateRoot, spec.Files = true, append(files, l.nameFiles(h)...)
	case h.Role == topology.RoleNode && l.Description.Bare:
		spec.PrivateRoot, spec.PrivateCgroup, spec.Files = true, true, l.nameFiles(h)
	case h.Role == topology.RoleNode:
		files, err := l.nodeFiles(h)
		if err != nil {
			return err
		}
		spec.PrivateRoot, spec.PrivateCgroup = true, true
		spec.Files, spec.Shadows = append(files, l.nameFiles(h)...), kubernetes.Shadows()
		spec.Binds = []host.Bind{{Source: l.BinDir, Target: host.BinDir}}
	}
	_, err := host.Start(ctx, spec)
	return err
}

// nameFiles make the lab's names resolve, and nothing else.
func (l *Lab) nameFiles(own topology.Host) []host.File {
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	for _, h := range l.Topology.Hosts {
		for _, a := range h.Addresses() {
			fmt.Fprintf(&hosts, "%s %s\n", a, h.Name)
		}
	}
	return []host.File{
		{Path: "/etc/hosts", Content: []byte(hosts.String()), Mode: 0o644},
		{Path: "/etc/hostname", Content: []byte(own.Name + "\n"), Mode: 0o644},
		{Path: "/etc/resolv.conf", Content: []byte("# no name servers in the lab\n"), Mode: 0o644},
	}
}

// connect makes links and configures both ends of each.
func (l *Lab) connect(ctx context.Context, links []topology.Link) error {
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(fabric.Links(links, func(name string) string { return host.NetNS(l.name, name) }))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make links: %w: %s", err, out)
	}
	return nil
}

// configure gives a host its addresses and routes; its links must be there.
func (l *Lab) configure(ctx context.Context, h topology.Host) error {
	if err := l.ipBatch(ctx, h.Name, fabric.Configure(h)); err != nil {
		return err
	}
	for _, i := range h.Interfaces {
		if _, err := l.Exec(ctx, h.Name, fabric.Offloads(i.Name)...); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) ipBatch(ctx context.Context, hostName, batch string) error {
	_, err := l.attach(hostName).Output(ctx, strings.NewReader(batch), "ip", "-batch", "-")
	return err
}

// attachLinks plugs a host that was started later into its running neighbours.
func (l *Lab) attachLinks(ctx context.Context, h topology.Host) error {
	links := l.Topology.LinksOf(h.Name)
	for _, link := range links {
		end := otherEnd(link, h.Name)
		if _, err := l.Exec(ctx, end.Host, "sh", "-c", unplug, "sh", end.Interface); err != nil {
			return err
		}
	}
	if err := l.connect(ctx, links); err != nil {
		return err
	}
	for _, link := range links {
		end := otherEnd(link, h.Name)
		peer, _ := l.Topology.Host(end.Host)
		if err := l.ipBatch(ctx, peer.Name, fabric.ConfigureInterface(peer, end.Interface)); err != nil {
			return err
		}
		if _, err := l.Exec(ctx, peer.Name, fabric.Offloads(end.Interface)...); err != nil {
			return err
		}
	}
	return l.configure(ctx, h)
}

// unplug removes an interface if it is there: the kernel takes its time to
// remove the links of a host that was killed.
const unplug = `ip link delete "$1" 2>/dev/null || ! ip link show "$1" 2>/dev/null`

func otherEnd(link topology.Link, name string) topology.End {
	if link.A.Host == name {
		return link.B
	}
	return link.A
}

// startProcess starts a program and, when it fails, says where its log is on
// the machine.
func (l *Lab) startProcess(ctx context.Context, h topology.Host, p host.Process) error {
	if err := l.attach(h.Name).StartProcess(ctx, p); err != nil {
		return fmt.Errorf("%w (log %s)", err, l.logPath(h, p))
	}
	return nil
}

// logPath is where the log of a program is on the machine.
func (l *Lab) logPath(h topology.Host, p host.Process) string {
	if h.Router() || h.Role == topology.RoleNode {
		return filepath.Join(l.hostData(h.Name), p.Log)
	}
	return p.Log
}

func (l *Lab) startRouter(ctx context.Context, h topology.Host) error {
	if _, err := l.Exec(ctx, h.Name, frr.Prepare()...); err != nil {
		return err
	}
	for _, daemon := range frr.Daemons() {
		if err := l.startProcess(ctx, h, frr.Process(daemon)); err != nil {
			return err
		}
	}
	return nil
}
