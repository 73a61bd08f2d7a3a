// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waymark-net/waymark/test/lab/topology"
)

// collectDeadline bounds each command of Collect.
const collectDeadline = 15 * time.Second

// look is one command whose output is collected.
type look struct {
	file string
	run  func(context.Context) (string, error)
}

// Collect writes all that helps to understand a failure into a folder: routes,
// flows, BGP tables, logs, objects. What cannot be had is noted in its file;
// the error is about the folder only.
func (l *Lab) Collect(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("collect from lab %s: %w", l.name, err)
	}
	looks := l.clusterLooks()
	for _, h := range l.Topology.Hosts {
		looks = append(looks, l.hostLooks(h)...)
	}
	var errs []error
	for _, look := range looks {
		ctx, cancel := context.WithTimeout(ctx, collectDeadline)
		text, err := look.run(ctx)
		cancel()
		if err != nil {
			text += "\n" + err.Error() + "\n"
		}
		errs = append(errs, writeInto(dir, look.file, text))
	}
	for _, h := range l.Topology.Hosts {
		errs = append(errs, l.collectLogs(h, filepath.Join(dir, h.Name)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("collect from lab %s: %w", l.name, err)
	}
	return nil
}

func writeInto(dir, file, text string) error {
	path := filepath.Join(dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func (l *Lab) clusterLooks() []look {
	kubectl := func(file string, args ...string) look {
		return look{"cluster/" + file, func(ctx context.Context) (string, error) { return l.Kubectl(ctx, args...) }}
	}
	return []look{
		{"status.txt", func(ctx context.Context) (string, error) {
			var b strings.Builder
			err := l.Status(ctx, &b)
			return b.String(), err
		}},
		kubectl("nodes.txt", "describe", "nodes"),
		kubectl("pods.txt", "describe", "pods", "-A"),
		kubectl("events.txt", "get", "events", "-A", "--sort-by=.lastTimestamp"),
		kubectl("workloads.txt", "get", "all,configmaps", "-A", "-o", "wide"),
		kubectl("config.yaml", "-n", "kube-system", "get", "configmap", "waymark-config", "-o", "yaml"),
		kubectl("bgp.yaml", "get", "bgppeers,bgpadvertisements,bgpsessions", "-o", "yaml"),
		kubectl("paths.yaml", "get", "nodepaths,networkrollouts", "-o", "yaml"),
	}
}

// inBridges runs a command for each Open vSwitch bridge of a node; the daemons
// run in Pods, so the node's own tools find them by their sockets.
func inBridges(command string) string {
	return `for socket in /run/openvswitch/*.mgmt; do echo "== $socket"; ` + command + `; done`
}

func (l *Lab) hostLooks(h topology.Host) []look {
	shell := func(file, script string) look {
		return look{h.Name + "/" + file, func(ctx context.Context) (string, error) {
			return l.Exec(ctx, h.Name, "sh", "-c", script+" 2>&1")
		}}
	}
	looks := []look{
		shell("addresses.txt", "ip -details address"),
		shell("counters.txt", "ip -statistics link"),
		shell("routes.txt", "ip -4 route show table all; echo; ip -6 route show table all"),
		shell("neighbours.txt", "ip neighbour"),
	}
	switch {
	case h.Router():
		for file, command := range map[string]string{
			"bgp-summary.txt": "show bgp summary", "bgp-ipv4.txt": "show bgp ipv4 unicast",
			"bgp-ipv6.txt": "show bgp ipv6 unicast", "bgp-neighbours.txt": "show bgp neighbors",
			"config.txt": "show running-config", "bfd.txt": "show bfd peers",
		} {
			looks = append(looks, look{h.Name + "/" + file, func(ctx context.Context) (string, error) {
				return l.Vtysh(ctx, h.Name, command)
			}})
		}
		looks = append(looks, shell("nftables.txt", "nft list ruleset"))
	case h.Role == topology.RoleNode:
		looks = append(looks,
			shell("nftables.txt", "nft list ruleset"),
			shell("sockets.txt", "ss -tunap"),
			shell("processes.txt", "ps -ef"),
			shell("cni.txt", "head -n 200 /etc/cni/net.d/*"),
			shell("ports.txt", inBridges(`ovs-ofctl -O OpenFlow15 show unix:$socket`)),
			shell("flows.txt", inBridges(`ovs-ofctl -O OpenFlow15 dump-flows unix:$socket`)),
			shell("groups.txt", inBridges(`ovs-ofctl -O OpenFlow15 dump-groups unix:$socket`)),
			shell("ovsdb.txt", "ovs-vsctl --db=unix:/run/openvswitch/db.sock --timeout=5 list bridge port interface"),
			shell("datapath.txt", "for c in /run/openvswitch/ovs-vswitchd.*.ctl; do ovs-appctl -t $c dpif/show; ovs-appctl -t $c dpctl/dump-flows; ovs-appctl -t $c ovs/route/show; done"),
		)
	}
	return looks
}

// logFolders are where logs are, below the data of a host.
var logFolders = []string{"log", "var/log"}

// collectLogs copies the logs of a host's programs and Pods.
func (l *Lab) collectLogs(h topology.Host, dir string) error {
	var errs []error
	for _, folder := range logFolders {
		base := filepath.Join(l.hostData(h.Name), folder)
		err := filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(base, path)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return writeInto(filepath.Join(dir, "log"), name, string(data))
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	data, err := os.ReadFile(filepath.Join(l.hostState(h.Name), "init.log"))
	if err == nil {
		err = writeInto(dir, "init.log", string(data))
	}
	return errors.Join(append(errs, err)...)
}
