// SPDX-License-Identifier: Apache-2.0

//go:build integration

package cniserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/waymark-net/waymark/internal/cniapi"
	"github.com/waymark-net/waymark/internal/cniinstall"
	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/ipam"
)

// runtime is a container runtime (libcni, as containerd uses it) with the real
// plugins on a node with real links and addresses. The switch is a fake.
type runtime struct {
	t    *testing.T
	node *testnet.Namespace
	dir  string
	cni  *libcni.CNIConfig
	w    *world
	srv  *Server
	stop func()
	conf *libcni.NetworkConfigList
}

func newRuntime(t *testing.T, node *testnet.Namespace) *runtime {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+"/bin/", "github.com/waymark-net/waymark/cmd/waymark-cni",
		"github.com/containernetworking/plugins/plugins/meta/portmap",
		"github.com/containernetworking/plugins/plugins/meta/bandwidth")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the plugins: %v\n%s", err, out)
	}
	r := &runtime{
		t: t, node: node, dir: dir, w: newWorld(),
		cni: libcni.NewCNIConfigWithCacheDir([]string{dir + "/bin"}, dir+"/cache",
			// Not left to libcni, which would set it at the first use, unguarded.
			&invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}}),
	}
	path := filepath.Join(dir, "05-waymark.conflist")
	if _, err := cniinstall.WriteConfig(path, "/run/cni.sock"); err != nil {
		t.Fatal(err)
	}
	r.useConfig(path, "")
	return r
}

// useConfig reads the configuration list, in another version if one is given.
func (r *runtime) useConfig(path, version string) {
	r.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	text := string(data)
	if version != "" {
		text = strings.Replace(text, `"1.0.0"`, `"`+version+`"`, 1)
	}
	if r.conf, err = libcni.NetworkConfFromBytes([]byte(text)); err != nil {
		r.t.Fatal(err)
	}
}

// start starts an agent; it is stopped at the end of the test, or by r.stop.
func (r *runtime) start() {
	r.t.Helper()
	alloc := ipam.New(ipam.Params{Dir: r.dir + "/ipam"})
	var err error
	r.srv, err = New(Params{
		SocketPath: "/run/cni.sock", StateDir: "/run/attachments",
		Settings: func() (Settings, error) { return testSettings, nil },
		Switch:   fakeSwitch{r.w}, Policies: &fakePolicies{}, Links: podlink.Links{}, Addresses: alloc,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.srv.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, alloc.Close()); err != nil {
			r.t.Error(err)
		}
	})
	r.t.Cleanup(r.stop)
}

// pod is what a runtime says of the Pod whose namespace has this name.
func (r *runtime) pod(name string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: "c-" + name, NetNS: "/run/netns/" + name, IfName: "eth0",
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", name}},
		CapabilityArgs: map[string]any{
			"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}},
			"bandwidth":    map[string]any{"ingressRate": 10_000_000, "ingressBurst": 1_000_000},
		},
	}
}

func (r *runtime) add(rt *libcni.RuntimeConf) *current.Result {
	r.t.Helper()
	res, err := r.cni.AddNetworkList(context.Background(), r.conf, rt)
	if err != nil {
		r.t.Fatalf("ADD: %v", err)
	}
	out, err := current.NewResultFromResult(res)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// wantNothing fails if anything is left of any attachment.
func (r *runtime) wantNothing() {
	r.t.Helper()
	links, err := podlink.Links{}.List(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	files, err := os.ReadDir(r.dir + "/ipam")
	if err != nil {
		r.t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(e os.DirEntry) bool {
		return e.Name() == "lock" || strings.HasPrefix(e.Name(), "last_reserved_ip")
	})
	records, err := os.ReadDir("/run/attachments")
	if err != nil {
		r.t.Fatal(err)
	}
	diff(r.t, "ports and flows", []string(nil), r.w.dump())
	if len(links)+len(files)+len(records) > 0 {
		r.t.Errorf("left: links %v, addresses %v, records %v", links, files, records)
	}
}

func TestRuntime(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		r := newRuntime(t, node)
		r.start()
		for _, version := range []string{"", "0.3.1", "0.4.0", "1.1.0"} {
			r.useConfig(r.dir+"/05-waymark.conflist", version)
			ns := testnet.New(t, "pod"+version)
			rt := r.pod(ns.Name)
			res := r.add(rt)
			host := podlink.HostInterface(rt.ContainerID, "eth0")
			if len(res.Interfaces) != 2 || res.Interfaces[0].Name != host || res.Interfaces[1].Sandbox != ns.Path() {
				t.Errorf("interfaces %v", res.Interfaces)
			}
			if len(res.IPs) != 2 || !strings.Contains(ns.Exec(t, "ip address show eth0"), res.IPs[0].Address.String()) {
				t.Errorf("addresses %v", res.IPs)
			}
			if rules := node.Exec(t, "nft list ruleset"); !strings.Contains(rules, "8080") {
				t.Errorf("portmap made no rule:\n%s", rules)
			}
			if qdisc := node.Exec(t, "tc qdisc show dev "+host); !strings.Contains(qdisc, "tbf") {
				t.Errorf("bandwidth made no queue: %s", qdisc)
			}
			if version != "0.3.1" {
				if err := r.cni.CheckNetworkList(t.Context(), r.conf, rt); err != nil {
					t.Errorf("CHECK: %v", err)
				}
				ns.Exec(t, "ip route del default")
				if err := r.cni.CheckNetworkList(t.Context(), r.conf, rt); err == nil || !strings.Contains(err.Error(), "no route to 0.0.0.0/0") {
					t.Errorf("CHECK after damage: %v", err)
				}
			}
			for range 2 {
				if err := r.cni.DelNetworkList(t.Context(), r.conf, rt); err != nil {
					t.Errorf("DEL: %v", err)
				}
			}
			r.wantNothing()
			if rules := node.Exec(t, "nft list ruleset"); strings.Contains(rules, "8080") {
				t.Errorf("portmap left a rule:\n%s", rules)
			}
		}
	})
}

func TestRuntimeGCAndStatus(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		r := newRuntime(t, node)
		r.start()
		r.useConfig(r.dir+"/05-waymark.conflist", "1.1.0")
		if err := r.cni.GetStatusNetworkList(t.Context(), r.conf); err != nil {
			t.Errorf("STATUS: %v", err)
		}
		keep, lost := r.pod(testnet.New(t, "keep").Name), r.pod(testnet.New(t, "lost").Name)
		r.add(keep)
		r.add(lost)
		err := r.cni.GCNetworkList(t.Context(), r.conf, &libcni.GCArgs{
			ValidAttachments: []types.GCAttachment{{ContainerID: keep.ContainerID, IfName: "eth0"}},
		})
		if err != nil {
			t.Errorf("GC: %v", err)
		}
		pods, err := r.srv.Attachments()
		if err != nil || len(pods) != 1 || pods[0].PodName != "keep" {
			t.Errorf("left: %v, %v", pods, err)
		}
		r.stop()
		var cniErr *types.Error
		if err := r.cni.GetStatusNetworkList(t.Context(), r.conf); !errors.As(err, &cniErr) || cniErr.Code != types.ErrPluginNotAvailable {
			t.Errorf("STATUS without agent: %v", err)
		}
	})
}

// TestRuntimeWithoutAgent deletes a Pod while the agent is away.
func TestRuntimeWithoutAgent(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		r := newRuntime(t, node)
		r.start()
		one, two := r.pod("one"), r.pod("two")
		for _, name := range []string{"one", "two"} {
			node.Exec(t, "ip netns add "+name) // nothing else holds it
			r.add(r.pod(name))
		}
		r.stop()
		var cniErr *types.Error
		err := r.cni.DelNetworkList(t.Context(), r.conf, one)
		if !errors.As(err, &cniErr) || cniErr.Code != types.ErrTryAgainLater {
			t.Errorf("DEL without agent: %v", err)
		}
		// One namespace goes without another DEL, as after a restart of the node.
		node.Exec(t, "ip netns delete one")
		host := podlink.HostInterface("c-one", "eth0")
		testnet.WaitFor(t, 10*time.Second, func() error {
			if node.Try("ip link show "+host) == nil {
				return fmt.Errorf("%s still exists", host)
			}
			return nil
		})
		r.start()
		if _, err := r.srv.Reconcile(t.Context()); err != nil {
			t.Error(err)
		}
		pods, err := r.srv.Attachments()
		if err != nil || len(pods) != 1 || pods[0].PodName != "two" {
			t.Errorf("left: %v, %v", pods, err)
		}
		if err := r.cni.DelNetworkList(t.Context(), r.conf, two); err != nil {
			t.Errorf("DEL: %v", err)
		}
		r.wantNothing()
	})
}

// TestRuntimeMany adds and deletes 50 Pods at once.
func TestRuntimeMany(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		r := newRuntime(t, node)
		r.start()
		var pods []*libcni.RuntimeConf
		for i := range 50 {
			rt := r.pod(testnet.New(t, fmt.Sprintf("pod%d", i)).Name)
			rt.CapabilityArgs = nil
			pods = append(pods, rt)
		}
		for _, command := range []cniapi.Command{cniapi.Add, cniapi.Del} {
			took := make([]time.Duration, len(pods))
			var wg sync.WaitGroup
			for i, rt := range pods {
				wg.Go(func() {
					start := time.Now()
					var err error
					if command == cniapi.Add {
						_, err = r.cni.AddNetworkList(context.Background(), r.conf, rt)
					} else {
						err = r.cni.DelNetworkList(context.Background(), r.conf, rt)
					}
					if err != nil {
						t.Errorf("%s: %v", command, err)
					}
					took[i] = time.Since(start)
				})
			}
			wg.Wait()
			slices.Sort(took)
			t.Logf("50 %s at once, three plugins each: median %v, slowest %v", command, took[25], took[49])
		}
		r.wantNothing()
	})
}
