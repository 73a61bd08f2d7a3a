// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/imagestore"
	"github.com/waymark-net/waymark/test/lab/kubernetes"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// RackLabel is the node label that holds the name of the rack.
const RackLabel = "topology.kubernetes.io/zone"

// RackLabelValue is what nodes of a rack have there. It can be part of the name of
// an object, as suites of others take for granted of zones.
func RackLabelValue(rack string) string { return strings.ToLower(topology.SwitchName(rack)) }

func (l *Lab) node(h topology.Host) kubernetes.Node {
	return kubernetes.Node{
		Name:         h.Name,
		Addresses:    h.Addresses(),
		Labels:       map[string]string{RackLabel: RackLabelValue(h.Rack)},
		Server:       l.controlPlane().Server(),
		SandboxImage: l.Description.SandboxImage,
		PodPrefixes:  l.Topology.PodPrefixes(),
		ClusterDNS:   l.ClusterDNS(),
	}
}

func (l *Lab) nodeFiles(h topology.Host) ([]host.File, error) {
	authority, err := l.authority()
	if err != nil {
		return nil, err
	}
	return l.node(h).Files(authority)
}

// giveImages puts the unpacked images onto the disk of a node that never ran.
func (l *Lab) giveImages(ctx context.Context, h topology.Host) error {
	if l.ImageRoot == "" {
		return nil
	}
	dir := filepath.Join(l.hostData(h.Name), "var/lib/containerd")
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	return imagestore.Copy(ctx, l.ImageRoot, dir)
}

// startNode starts containerd, the kubelet and, where the lab has it, kube-proxy
// on a connected host.
func (l *Lab) startNode(ctx context.Context, h topology.Host) error {
	n := l.node(h)
	if err := l.startProcess(ctx, h, n.Containerd()); err != nil {
		return err
	}
	if err := l.startProcess(ctx, h, n.Kubelet()); err != nil || !l.Description.KubeProxy {
		return err
	}
	return l.startProcess(ctx, h, n.Proxy())
}

// AddNode lets a node join: a new host in a rack.
func (l *Lab) AddNode(ctx context.Context, name, rack string) error {
	return l.change(ctx, func() error {
		h, err := l.Topology.AddNode(name, rack)
		if err != nil {
			return err
		}
		if err := l.save(); err != nil {
			return err
		}
		return l.progress.step("starting node "+name, func() error { return l.bootNode(ctx, h) })
	})
}

// bootNode starts a node in a running lab and waits until it is registered.
func (l *Lab) bootNode(ctx context.Context, h topology.Host) error {
	if err := l.giveImages(ctx, h); err != nil {
		return err
	}
	if err := l.startHost(ctx, h); err != nil {
		return err
	}
	if err := l.attachLinks(ctx, h); err != nil {
		return err
	}
	if err := l.startNode(ctx, h); err != nil {
		return err
	}
	return l.waitRegistered(ctx, []topology.Host{h})
}

// RemoveNode lets a node leave for good: its host is ended at once, its object
// deleted, its disk removed.
func (l *Lab) RemoveNode(ctx context.Context, name string) error {
	return l.change(ctx, func() error {
		if h, ok := l.Topology.Host(name); !ok || h.Role != topology.RoleNode {
			return fmt.Errorf("lab %s has no node %q", l.name, name)
		}
		return l.progress.step("removing node "+name, func() error {
			if err := host.Kill(ctx, l.name, name); err != nil {
				return err
			}
			if _, err := l.Kubectl(ctx, "delete", "node", name, "--ignore-not-found"); err != nil {
				return err
			}
			// Nobody is left to end its Pods, and the collector of orphans takes a minute.
			if _, err := l.Kubectl(ctx, "delete", "pods", "--all-namespaces", "--field-selector=spec.nodeName="+name,
				"--force", "--grace-period=0"); err != nil {
				return err
			}
			if err := l.Topology.RemoveNode(name); err != nil {
				return err
			}
			for _, dir := range []string{l.hostState(name), l.hostData(name)} {
				if err := os.RemoveAll(dir); err != nil {
					return fmt.Errorf("remove node %s: %w", name, err)
				}
			}
			return l.save()
		})
	})
}
