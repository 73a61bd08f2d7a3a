// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/waymark-net/waymark/test/lab/pki"
)

func authority(t *testing.T) *pki.Authority {
	t.Helper()
	a, err := pki.NewAuthority(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestControlPlaneFamilies(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.10.0.0/16"), netip.MustParsePrefix("fd10:10::/48")
	a4, a6 := netip.MustParseAddr("172.30.100.10"), netip.MustParseAddr("fd30:0:0:100::10")
	for _, tc := range []struct {
		name   string
		c      ControlPlane
		server string
		want   []string // flags of the API server or the controller manager
	}{
		{
			"dual", ControlPlane{Addresses: []netip.Addr{a4, a6}, PodPrefixes: []netip.Prefix{v4, v6}, NodeMaskIPv4: 24, NodeMaskIPv6: 64},
			"https://172.30.100.10:6443",
			[]string{"--bind-address=::", "--cluster-cidr=10.10.0.0/16,fd10:10::/48", "--node-cidr-mask-size-ipv4=24", "--node-cidr-mask-size-ipv6=64"},
		},
		{
			"IPv4", ControlPlane{Addresses: []netip.Addr{a4}, PodPrefixes: []netip.Prefix{v4}, NodeMaskIPv4: 25, NodeMaskIPv6: 64},
			"https://172.30.100.10:6443",
			[]string{"--bind-address=0.0.0.0", "--cluster-cidr=10.10.0.0/16", "--node-cidr-mask-size=25"},
		},
		{
			"IPv6", ControlPlane{Addresses: []netip.Addr{a6}, PodPrefixes: []netip.Prefix{v6}, NodeMaskIPv4: 24, NodeMaskIPv6: 64},
			"https://[fd30:0:0:100::10]:6443",
			[]string{"--bind-address=::", "--advertise-address=fd30:0:0:100::10", "--node-cidr-mask-size=64"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.c.Server(); got != tc.server {
				t.Errorf("Server = %s, want %s", got, tc.server)
			}
			flags := append(tc.c.APIServer().Argv, tc.c.ControllerManager().Argv...)
			for _, want := range tc.want {
				if !slices.Contains(flags, want) {
					t.Errorf("no flag %s in %s", want, flags)
				}
			}
		})
	}
}

func TestIssue(t *testing.T) {
	c := ControlPlane{
		Addresses:       []netip.Addr{netip.MustParseAddr("172.30.100.10")},
		ServicePrefixes: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
	}
	credentials, err := c.Issue(authority(t))
	if err != nil {
		t.Fatal(err)
	}
	files := credentials.Files()
	pair, err := tls.X509KeyPair(files["apiserver.crt"], files["apiserver.key"])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"172.30.100.10", "10.96.0.1", "127.0.0.1", "kubernetes.default.svc"} {
		if err := pair.Leaf.VerifyHostname(name); err != nil {
			t.Errorf("certificate of the API server: %v", err)
		}
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
			} `json:"cluster"`
		} `json:"clusters"`
	}
	if err := yaml.Unmarshal(files[AdminConfig], &config); err != nil || config.Clusters[0].Cluster.Server != c.Server() {
		t.Errorf("%s: %+v, %v", AdminConfig, config, err)
	}
}

func TestNodeFiles(t *testing.T) {
	n := Node{
		Name:         "n1",
		Addresses:    []netip.Addr{netip.MustParseAddr("172.30.1.11"), netip.MustParseAddr("fd30:0:0:1::11")},
		Labels:       map[string]string{"b": "2", "a": "1"},
		Server:       "https://172.30.100.10:6443",
		SandboxImage: "example/pause:1",
		ClusterDNS:   []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:96::a")},
		PodPrefixes:  []netip.Prefix{netip.MustParsePrefix("10.10.0.0/16"), netip.MustParsePrefix("fd10:10::/48")},
	}
	files, err := n.Files(authority(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		switch f.Path {
		case "/etc/kubernetes/kubelet.yaml":
			var config struct {
				ClusterDNS   []string          `json:"clusterDNS"`
				EvictionHard map[string]string `json:"evictionHard"`
			}
			if err := yaml.UnmarshalStrict(f.Content, &map[string]any{}); err != nil {
				t.Errorf("kubelet.yaml: %v", err)
			}
			if err := yaml.Unmarshal(f.Content, &config); err != nil || !slices.Equal(config.ClusterDNS, []string{"10.96.0.10", "fd00:96::a"}) || config.EvictionHard["memory.available"] != "0%" {
				t.Errorf("kubelet.yaml: %+v, %v", config, err)
			}
		case "/etc/kubernetes/kube-proxy.yaml":
			var config struct {
				Mode             string `json:"mode"`
				HostnameOverride string `json:"hostnameOverride"`
				ClusterCIDR      string `json:"clusterCIDR"`
			}
			want := config
			want.Mode, want.HostnameOverride, want.ClusterCIDR = "nftables", "n1", "10.10.0.0/16,fd10:10::/48"
			if err := yaml.Unmarshal(f.Content, &config); err != nil || config != want {
				t.Errorf("kube-proxy.yaml: %+v, %v, want %+v", config, err, want)
			}
		case "/etc/containerd/config.toml":
			if !strings.Contains(string(f.Content), `sandbox_image = "example/pause:1"`) {
				t.Errorf("config.toml: %s", f.Content)
			}
		}
		if secret := strings.HasSuffix(f.Path, ".key") || strings.HasSuffix(f.Path, ".conf"); secret != (f.Mode == 0o600) {
			t.Errorf("%s has mode %o", f.Path, f.Mode)
		}
	}
	argv := n.Kubelet().Argv
	for _, want := range []string{"--node-ip=172.30.1.11,fd30:0:0:1::11", "--node-labels=a=1,b=2"} {
		if !slices.Contains(argv, want) {
			t.Errorf("no flag %s in %s", want, argv)
		}
	}
}
