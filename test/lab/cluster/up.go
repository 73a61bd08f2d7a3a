// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/waymark-net/waymark/test/lab/binaries"
	"github.com/waymark-net/waymark/test/lab/image"
	"github.com/waymark-net/waymark/test/lab/imagestore"
	"github.com/waymark-net/waymark/test/lab/pki"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// Up starts a lab and returns when its nodes, unless it is bare, are registered
// and, if it has the product, ready. Whatever is left of an earlier lab of that name is removed
// first. After a failure everything stays as it is, to be looked at; Down or
// another Up removes it.
func Up(ctx context.Context, d Description) (*Lab, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("description of lab: %w", err)
	}
	topo, err := topology.New(d.Network)
	if err != nil {
		return nil, fmt.Errorf("topology of lab %s: %w", d.Name, err)
	}
	source, err := Source()
	if err != nil {
		return nil, err
	}
	l := &Lab{
		paths:    paths{d.Name},
		record:   record{Description: d, Topology: topo, Source: source},
		progress: newProgress(d.Progress, time.Now),
	}
	err = l.change(ctx, func() error { return l.up(ctx) })
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", d.Name, err)
	}
	return l, nil
}

func (l *Lab) up(ctx context.Context) error {
	for _, s := range l.steps() {
		if s.kubernetes && l.Description.Bare {
			continue
		}
		if err := l.progress.step(s.name, func() error { return s.run(ctx) }); err != nil {
			return err
		}
	}
	if !l.Description.hasProduct() {
		return nil
	}
	return l.install(ctx)
}

// step is a part of starting a lab.
type step struct {
	name string
	run  func(context.Context) error
	// kubernetes marks what a bare lab has not.
	kubernetes bool
}

func (l *Lab) steps() []step {
	return []step{
		{"checking the machine", checkMachine, false},
		{"removing what is left of an earlier lab", l.clear, false},
		{"providing the Kubernetes programs", l.provideBinaries, true},
		{"providing the images", l.provideImages, true},
		{"making certificates", l.makeCredentials, true},
		{"starting hosts", l.startHosts, false},
		{"connecting hosts", l.connectHosts, false},
		{"starting the control plane", l.startControlPlane, true},
		{"starting routers", l.startRouters, false},
		{"starting nodes", l.startNodes, true},
		{"waiting for sessions between routers", l.waitRouters, false},
		{"waiting for nodes to register", func(ctx context.Context) error {
			return l.waitRegistered(ctx, l.Topology.WithRole(topology.RoleNode))
		}, true},
	}
}

// clear removes what there is of the lab and records the new one.
func (l *Lab) clear(ctx context.Context) error {
	if err := remove(ctx, l.paths); err != nil {
		return err
	}
	return l.save()
}

// tools are the programs that a lab runs, with the Debian packages that have them.
var tools = []struct{ program, pack string }{
	{"ip", "iproute2"}, {"ethtool", "ethtool"}, {"etcd", "etcd-server"}, {"containerd", "containerd"},
	{"runc", "runc"}, {"vtysh", "frr"}, {"/usr/lib/frr/bgpd", "frr"}, {"nft", "nftables"}, {"tcpdump", "tcpdump"},
}

// Limits of the machine that are raised.
const (
	// inotifyInstances is what some ten kubelets and container runtimes need;
	// the usual limit of 128 is for a user's desktop.
	inotifyInstances = 2048
	// receiveBuffer, in bytes, is what a userspace switch may have waiting at a
	// port while it gets no CPU: a small machine starves it for longer than the
	// usual 200 KiB last, and those losses would look like the product's.
	receiveBuffer = 16 << 20
)

func checkMachine(context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("a lab takes root: it makes namespaces")
	}
	var errs []error
	for _, tool := range tools {
		if _, err := exec.LookPath(tool.program); err != nil {
			errs = append(errs, fmt.Errorf("%w (Debian package %s; test/lab/packages.sh installs all)", err, tool.pack))
		}
	}
	return errors.Join(append(errs,
		raiseLimit("/proc/sys/fs/inotify/max_user_instances", inotifyInstances),
		raiseLimit("/proc/sys/net/core/rmem_default", receiveBuffer))...)
}

// raiseLimit raises a limit of the machine that is below least. It stays: it
// allows more and takes nothing.
func raiseLimit(path string, least int) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read limit: %w", err)
	}
	var value int
	if _, err := fmt.Sscan(string(data), &value); err != nil {
		return fmt.Errorf("read limit %s: %w", path, err)
	}
	if value >= least {
		return nil
	}
	if err := os.WriteFile(path, fmt.Append(nil, least), 0o644); err != nil {
		return fmt.Errorf("raise limit: %w", err)
	}
	return nil
}

func (l *Lab) provideBinaries(ctx context.Context) error {
	dir, err := binaries.Build(ctx, binaries.Params{
		Source:   filepath.Join(l.Source, "test", "lab", "kube"),
		CacheDir: CacheDir(),
		Building: func() { l.progress.note("building Kubernetes: about five minutes, once") },
	})
	l.BinDir = dir
	return err
}

func (l *Lab) provideImages(ctx context.Context) error {
	archives := l.Description.Images
	if l.Description.hasProduct() {
		images, err := image.Build(ctx, image.Options{Source: l.Source, Tags: l.Description.Tags, Progress: l.progress.note})
		if err != nil {
			return err
		}
		names, err := l.provideDNS(ctx)
		if err != nil {
			return err
		}
		for _, built := range append(images, names) {
			archives = append(archives, built.Archive)
		}
	}
	if len(archives) == 0 {
		return nil
	}
	root, err := imagestore.Prepare(ctx, imagestore.Params{
		Archives: archives, CacheDir: CacheDir(), Lab: l.name, StateDir: l.hostState("imagestore"),
		Preparing: func() { l.progress.note("unpacking images") },
	})
	l.ImageRoot = root
	return err
}

// provideDNS provides the image of the cluster's name server.
func (l *Lab) provideDNS(ctx context.Context) (image.Image, error) {
	program, err := binaries.CoreDNS(ctx, binaries.Params{
		Source:   filepath.Join(l.Source, "test", "lab", "coredns"),
		CacheDir: CacheDir(),
		Building: func() { l.progress.note("building CoreDNS: about two minutes, once") },
	})
	if err != nil {
		return image.Image{}, err
	}
	return image.BuildCoreDNS(ctx, image.Options{Source: l.Source, Progress: l.progress.note}, program)
}

func (l *Lab) makeCredentials(context.Context) error {
	authority, err := pki.NewAuthority(time.Now)
	if err != nil {
		return err
	}
	credentials, err := l.controlPlane().Issue(authority)
	if err != nil {
		return err
	}
	dir := l.hostData(topology.ControlPlane)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range credentials.Files() {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return l.save()
}

func (l *Lab) startHosts(ctx context.Context) error {
	return forEach(l.Topology.Hosts, func(h topology.Host) error {
		if h.Role == topology.RoleNode {
			if err := l.giveImages(ctx, h); err != nil {
				return err
			}
		}
		return l.startHost(ctx, h)
	})
}

func (l *Lab) connectHosts(ctx context.Context) error {
	if err := l.connect(ctx, l.Topology.Links); err != nil {
		return err
	}
	return forEach(l.Topology.Hosts, func(h topology.Host) error { return l.configure(ctx, h) })
}

func (l *Lab) startControlPlane(ctx context.Context) error {
	cp, _ := l.Topology.Host(topology.ControlPlane)
	programs := l.controlPlane()
	if err := l.startProcess(ctx, cp, programs.Etcd()); err != nil {
		return err
	}
	if err := l.startProcess(ctx, cp, programs.APIServer()); err != nil {
		return err
	}
	if err := l.waitAPI(ctx); err != nil {
		return fmt.Errorf("%w (log %s)", err, programs.APIServer().Log)
	}
	return errors.Join(
		l.startProcess(ctx, cp, programs.ControllerManager()),
		l.startProcess(ctx, cp, programs.Scheduler()),
		l.tellAPIServer(ctx),
	)
}

func (l *Lab) startRouters(ctx context.Context) error {
	return forEach(l.Topology.WithRole(topology.RoleToR, topology.RoleSpine), func(h topology.Host) error {
		return l.startRouter(ctx, h)
	})
}

func (l *Lab) startNodes(ctx context.Context) error {
	return forEach(l.Topology.WithRole(topology.RoleNode), func(h topology.Host) error { return l.startNode(ctx, h) })
}
