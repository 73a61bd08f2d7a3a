// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/pki"
)

// Node describes a node of a cluster.
type Node struct {
	Name string
	// Addresses are the node's, one a family.
	Addresses []netip.Addr
	Labels    map[string]string
	// Server is the URL of the API server.
	Server string
	// SandboxImage is what containerd runs for a Pod's sandbox.
	SandboxImage string
	// ClusterDNS are the addresses that Pods get as name servers.
	ClusterDNS []netip.Addr
	// PodPrefixes are the networks of the cluster's Pods: kube-proxy hides from
	// Services who else is their client.
	PodPrefixes []netip.Prefix
}

const (
	kubeletDir = "/etc/kubernetes"
	criSocket  = "/run/containerd/containerd.sock"
)

// containerdConfig leaves oom_score_adj alone: lowering it takes a capability
// (CAP_SYS_RESOURCE) that not every machine gives.
const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = %q
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
`

// kubeletConfig has containers restarted soon: tests kill them again and again.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true, cacheTTL: 30s}
  x509: {clientCAFile: %[1]s/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: %[1]s/kubelet.crt
tlsPrivateKeyFile: %[1]s/kubelet.key
cgroupDriver: cgroupfs
failSwapOn: false
containerRuntimeEndpoint: unix://%[2]s
resolvConf: /etc/resolv.conf
enforceNodeAllocatable: []
maxPods: 250
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", imagefs.available: "0%%", nodefs.inodesFree: "0%%"}
clusterDNS: [%[3]s]
clusterDomain: cluster.local
nodeStatusUpdateFrequency: 2s
featureGates: {KubeletCrashLoopBackOffMax: true}
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
`

// proxyConfig leaves the settings of conntrack alone: a network namespace may
// not write them.
const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: %[1]s/kube-proxy.conf}
hostnameOverride: %[2]s
detectLocalMode: ClusterCIDR
clusterCIDR: "%[3]s"
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`

// Files are what a node needs in its root, with credentials for the Node
// authorizer: a node may read and write only what concerns it.
func (n Node) Files(authority *pki.Authority) ([]host.File, error) {
	ca, err := authority.PEM()
	if err != nil {
		return nil, err
	}
	client, err := authority.Issue(pki.Request{CommonName: "system:node:" + n.Name, Groups: []string{"system:nodes"}})
	if err != nil {
		return nil, err
	}
	serving, err := authority.Issue(pki.Request{CommonName: n.Name, Addresses: n.Addresses, Names: []string{n.Name}})
	if err != nil {
		return nil, err
	}
	proxy, err := authority.Issue(pki.Request{CommonName: "system:kube-proxy"})
	if err != nil {
		return nil, err
	}
	secret := func(path string, content []byte) host.File {
		return host.File{Path: path, Content: content, Mode: 0o600}
	}
	public := func(path, content string) host.File {
		return host.File{Path: path, Content: []byte(content), Mode: 0o644}
	}
	return []host.File{
		secret(kubeletDir+"/kubelet.conf", Kubeconfig(n.Server, ca.Cert, client)),
		secret(kubeletDir+"/kubelet.key", serving.Key),
		public(kubeletDir+"/kubelet.crt", string(serving.Cert)),
		public(kubeletDir+"/ca.crt", string(ca.Cert)),
		public(kubeletDir+"/kubelet.yaml", fmt.Sprintf(kubeletConfig, kubeletDir, criSocket, joinAddresses(n.ClusterDNS, ", "))),
		secret(kubeletDir+"/kube-proxy.conf", Kubeconfig(n.Server, ca.Cert, proxy)),
		public(kubeletDir+"/kube-proxy.yaml", fmt.Sprintf(proxyConfig, kubeletDir, n.Name, joinPrefixes(n.PodPrefixes))),
		public("/etc/containerd/config.toml", fmt.Sprintf(containerdConfig, n.SandboxImage)),
	}, nil
}

// Containerd runs the container runtime.
func (n Node) Containerd() host.Process {
	return host.Process{
		Name: "containerd", Argv: []string{"containerd"}, Log: "/var/log/lab/containerd.log",
		Restart: true, Socket: criSocket,
	}
}

// Kubelet runs the kubelet. containerd must run.
func (n Node) Kubelet() host.Process {
	argv := []string{
		host.BinDir + "/kubelet",
		"--config=" + kubeletDir + "/kubelet.yaml",
		"--kubeconfig=" + kubeletDir + "/kubelet.conf",
		"--hostname-override=" + n.Name,
		"--node-ip=" + joinAddresses(n.Addresses, ","),
		"--root-dir=/var/lib/kubelet",
	}
	if len(n.Labels) > 0 {
		var labels []string
		for key, value := range n.Labels {
			labels = append(labels, key+"="+value)
		}
		slices.Sort(labels)
		argv = append(argv, "--node-labels="+strings.Join(labels, ","))
	}
	return host.Process{Name: "kubelet", Argv: argv, Log: "/var/log/lab/kubelet.log", Restart: true}
}

// Proxy runs kube-proxy, which programs the node's nftables.
func (n Node) Proxy() host.Process {
	return host.Process{
		Name: "kube-proxy", Argv: []string{host.BinDir + "/kube-proxy", "--config=" + kubeletDir + "/kube-proxy.yaml"},
		Log: "/var/log/lab/kube-proxy.log", Restart: true,
	}
}

// Shadows are the kernel settings that a kubelet writes and that are not
// namespaced: a node gets copies of its own.
func Shadows() []string {
	return []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxbytes", "kernel/keys/root_maxkeys",
	}
}

func joinAddresses(addrs []netip.Addr, separator string) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, separator)
}
