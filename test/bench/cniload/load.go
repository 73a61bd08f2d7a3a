// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
)

type params struct {
	config   string
	plugins  []string
	cache    string
	prefix   string
	count    int
	parallel int
}

// times are how long requests took, in milliseconds.
type times struct {
	Add []float64 `json:"addMs"`
	Del []float64 `json:"delMs"`
}

// run attaches all, calls between, and detaches all. Whatever fails, what was
// made is removed.
func run(ctx context.Context, p params, between func() error) (_ times, err error) {
	list, err := libcni.NetworkConfFromFile(p.config)
	if err != nil {
		return times{}, err
	}
	cni := libcni.NewCNIConfigWithCacheDir(p.plugins, p.cache,
		&invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}})
	pods := make([]*libcni.RuntimeConf, p.count)
	for i := range pods {
		name := fmt.Sprintf("%s-%d", p.prefix, i)
		pods[i] = &libcni.RuntimeConf{
			ContainerID: name, NetNS: "/var/run/netns/" + name, IfName: "eth0",
			Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", name}, {"K8S_POD_INFRA_CONTAINER_ID", name}},
		}
	}
	defer func() { err = errors.Join(err, namespaces(pods, "delete")) }()
	if err := namespaces(pods, "add"); err != nil {
		return times{}, err
	}
	var t times
	t.Add, err = each(pods, p.parallel, func(pod *libcni.RuntimeConf) error {
		_, err := cni.AddNetworkList(ctx, list, pod)
		return err
	})
	if err == nil {
		err = between()
	}
	// Also after a failure, and when the context has ended.
	dels, delErr := each(pods, p.parallel, func(pod *libcni.RuntimeConf) error {
		return cni.DelNetworkList(context.WithoutCancel(ctx), list, pod)
	})
	t.Del = dels
	return t, errors.Join(err, delErr)
}

// each calls do for all Pods, several at once, and returns how long each took.
func each(pods []*libcni.RuntimeConf, parallel int, do func(*libcni.RuntimeConf) error) ([]float64, error) {
	took, errs := make([]float64, len(pods)), make([]error, len(pods))
	next := make(chan int)
	var group sync.WaitGroup
	for range parallel {
		group.Go(func() {
			for i := range next {
				start := time.Now()
				if err := do(pods[i]); err != nil {
					errs[i] = fmt.Errorf("%s: %w", pods[i].ContainerID, err)
				}
				took[i] = float64(time.Since(start).Microseconds()) / 1000
			}
		})
	}
	for i := range pods {
		next <- i
	}
	close(next)
	group.Wait()
	return took, errors.Join(errs...)
}

// namespaces makes or deletes the namespaces of all Pods by one call of ip(8).
func namespaces(pods []*libcni.RuntimeConf, verb string) error {
	var batch bytes.Buffer
	for _, pod := range pods {
		fmt.Fprintf(&batch, "netns %s %s\n", verb, pod.ContainerID)
	}
	cmd := exec.Command("ip", "-force", "-batch", "-")
	cmd.Stdin = &batch
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip netns %s: %w: %s", verb, err, strings.TrimSpace(string(out)))
	}
	return nil
}
