// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"slices"
	"syscall"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/kubernetes"
)

// StartKubeProxy runs kube-proxy on a node where it does not run.
func (l *Lab) StartKubeProxy(ctx context.Context, node string) error {
	h, process, runs, err := l.kubeProxy(ctx, node)
	if err != nil || runs {
		return err
	}
	return h.StartProcess(ctx, process)
}

// StopKubeProxy ends kube-proxy on a node, if it runs there, and removes its
// rules with kube-proxy's own command for that.
func (l *Lab) StopKubeProxy(ctx context.Context, node string) error {
	h, process, runs, err := l.kubeProxy(ctx, node)
	if err != nil {
		return err
	}
	if runs {
		if err := h.StopProcess(ctx, process.Name, syscall.SIGTERM); err != nil {
			return err
		}
	}
	_, err = h.Output(ctx, nil, process.Argv[0], "--cleanup")
	return err
}

func (l *Lab) kubeProxy(ctx context.Context, node string) (h *host.Host, process host.Process, runs bool, err error) {
	process = kubernetes.Node{}.Proxy()
	if h, err = l.Host(node); err != nil {
		return nil, process, false, err
	}
	running, err := h.Processes(ctx)
	runs = slices.ContainsFunc(running, func(p host.ProcessStatus) bool { return p.Name == process.Name && p.PID != 0 })
	return h, process, runs, err
}
