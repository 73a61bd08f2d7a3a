// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/kubernetes"
	"github.com/waymark-net/waymark/test/lab/lockfile"
	"github.com/waymark-net/waymark/test/lab/pki"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// Lab is a lab that was started.
type Lab struct {
	paths
	record
	progress *progress
}

// record is what is written down of a lab.
type record struct {
	Description Description        `json:"description"`
	Topology    *topology.Topology `json:"topology"`
	// BinDir holds the Kubernetes programs, ImageRoot the unpacked images,
	// Source the repository that the lab was started from.
	BinDir    string `json:"binDir"`
	ImageRoot string `json:"imageRoot"`
	Source    string `json:"source"`
}

// Open returns a lab that was started before. progress is told the steps of
// changes; it may be nil.
func Open(name string, out io.Writer) (*Lab, error) {
	l := &Lab{paths: paths{name}, progress: newProgress(out, time.Now)}
	data, err := os.ReadFile(filepath.Join(l.state(), stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no lab %q is up", name)
	} else if err != nil {
		return nil, fmt.Errorf("open lab %s: %w", name, err)
	}
	if err := json.Unmarshal(data, &l.record); err != nil {
		return nil, fmt.Errorf("open lab %s: %w", name, err)
	}
	return l, nil
}

// save writes the record so that a reader sees the old or the new one.
func (l *Lab) save() error {
	data, err := json.MarshalIndent(l.record, "", "  ")
	if err != nil {
		return fmt.Errorf("record lab %s: %w", l.name, err)
	}
	if err := os.MkdirAll(l.state(), 0o755); err != nil {
		return fmt.Errorf("record lab %s: %w", l.name, err)
	}
	path := filepath.Join(l.state(), stateFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return fmt.Errorf("record lab %s: %w", l.name, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("record lab %s: %w", l.name, err)
	}
	return nil
}

// change runs something that alters the lab, one at a time.
func (l *Lab) change(ctx context.Context, run func() error) error {
	unlock, err := lockfile.Lock(ctx, l.lock())
	if err != nil {
		return err
	}
	defer unlock()
	return run()
}

// Host returns a host of the lab for running commands in it and for
// connections from it. The host need not be alive.
func (l *Lab) Host(name string) (*host.Host, error) {
	if _, ok := l.Topology.Host(name); !ok {
		return nil, fmt.Errorf("lab %s has no host %q", l.name, name)
	}
	return l.attach(name), nil
}

func (l *Lab) attach(name string) *host.Host { return host.Attach(name, l.hostState(name)) }

// Exec runs a command in a host and returns its standard output. If it fails,
// the error holds what it said.
func (l *Lab) Exec(ctx context.Context, hostName string, argv ...string) (string, error) {
	h, err := l.Host(hostName)
	if err != nil {
		return "", err
	}
	return h.Output(ctx, nil, argv...)
}

// Vtysh runs commands in a router's shell, each as on its own line, and
// returns what they print.
func (l *Lab) Vtysh(ctx context.Context, router string, commands ...string) (string, error) {
	argv := []string{"vtysh"}
	for _, c := range commands {
		argv = append(argv, "-c", c)
	}
	return l.Exec(ctx, router, argv...)
}

// KubectlCmd is a command that runs kubectl as administrator, on the
// control-plane host. Paths are those of the machine.
func (l *Lab) KubectlCmd(args ...string) host.Cmd {
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	return host.Cmd{
		Argv: append([]string{filepath.Join(l.BinDir, "kubectl"), "--kubeconfig=" + l.KubeConfig()}, args...),
		Dir:  dir,
	}
}

// Kubectl runs kubectl as administrator and returns its standard output.
func (l *Lab) Kubectl(ctx context.Context, args ...string) (string, error) {
	return l.kubectl(ctx, nil, args...)
}

func (l *Lab) kubectl(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := l.KubectlCmd(args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := l.attach(topology.ControlPlane).Run(ctx, cmd)
	var exit *host.ExitError
	if errors.As(err, &exit) {
		exit.Argv = append([]string{"kubectl"}, args...)
		exit.Output = stderr.String()
	}
	return stdout.String(), err
}

// KubeConfig is the path of the administrator's kubeconfig. Its server is only
// reachable from within the lab.
func (l *Lab) KubeConfig() string {
	return filepath.Join(l.hostData(topology.ControlPlane), kubernetes.AdminConfig)
}

// RESTConfig is a client configuration that works from outside the lab: its
// connections are opened in the control-plane host.
func (l *Lab) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", l.KubeConfig())
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", l.name, err)
	}
	config.Dial = l.attach(topology.ControlPlane).DialContext
	config.QPS = -1 // the lab's API server is the test's own
	return config, nil
}

func (l *Lab) controlPlane() kubernetes.ControlPlane {
	cp, _ := l.Topology.Host(topology.ControlPlane)
	networks := l.Description.Network.Networks
	return kubernetes.ControlPlane{
		BinDir:          l.BinDir,
		Dir:             l.hostData(topology.ControlPlane),
		Addresses:       cp.Addresses(),
		PodPrefixes:     l.Topology.PodPrefixes(),
		ServicePrefixes: l.Topology.ServicePrefixes(),
		NodeMaskIPv4:    networks.NodeMaskIPv4,
		NodeMaskIPv6:    networks.NodeMaskIPv6,
	}
}

func (l *Lab) authority() (*pki.Authority, error) {
	var pair pki.Pair
	var err error
	if pair.Cert, err = os.ReadFile(filepath.Join(l.hostData(topology.ControlPlane), "ca.crt")); err != nil {
		return nil, err
	}
	if pair.Key, err = os.ReadFile(filepath.Join(l.hostData(topology.ControlPlane), "ca.key")); err != nil {
		return nil, err
	}
	return pki.ReadAuthority(pair, time.Now)
}
