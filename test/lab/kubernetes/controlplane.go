// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/pki"
)

// APIPort is where the API server listens.
const APIPort = 6443

// ControlPlane describes the control plane of a cluster.
type ControlPlane struct {
	// BinDir holds the Kubernetes programs, Dir is for certificates and data.
	BinDir string
	Dir    string
	// Addresses of the host; the first is advertised.
	Addresses []netip.Addr
	// PodPrefixes and ServicePrefixes are the networks of each family.
	PodPrefixes     []netip.Prefix
	ServicePrefixes []netip.Prefix
	NodeMaskIPv4    int
	NodeMaskIPv6    int
}

// Credentials are the secrets of a control plane, as files below its Dir.
type Credentials struct {
	Authority pki.Pair
	files     map[string][]byte
}

// Files are the contents by path relative to the control plane's Dir.
func (c Credentials) Files() map[string][]byte { return c.files }

// AdminConfig is the name of the administrator's kubeconfig among the files.
const AdminConfig = "admin.conf"

// Server is the URL of the API server.
func (c ControlPlane) Server() string {
	return "https://" + netip.AddrPortFrom(c.Addresses[0], APIPort).String()
}

// Issue makes all credentials of the control plane.
func (c ControlPlane) Issue(authority *pki.Authority) (Credentials, error) {
	ca, err := authority.PEM()
	if err != nil {
		return Credentials{}, err
	}
	private, public, err := pki.SigningKey()
	if err != nil {
		return Credentials{}, err
	}
	issued := Credentials{Authority: ca, files: map[string][]byte{
		"ca.crt": ca.Cert, "ca.key": ca.Key, "sa.key": private, "sa.pub": public,
	}}
	server := pki.Request{
		CommonName: "kube-apiserver",
		Addresses:  append([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}, c.Addresses...),
		Names:      []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
	}
	for _, p := range c.ServicePrefixes {
		server.Addresses = append(server.Addresses, p.Addr().Next()) // of the Service "kubernetes"
	}
	pair, err := authority.Issue(server)
	if err != nil {
		return Credentials{}, err
	}
	issued.files["apiserver.crt"], issued.files["apiserver.key"] = pair.Cert, pair.Key
	for _, client := range []struct{ file, name, group string }{
		{AdminConfig, "waymark-lab-admin", "system:masters"},
		{"controller-manager.conf", "system:kube-controller-manager", ""},
		{"scheduler.conf", "system:kube-scheduler", ""},
		{"apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters"},
	} {
		request := pki.Request{CommonName: client.name}
		if client.group != "" {
			request.Groups = []string{client.group}
		}
		pair, err := authority.Issue(request)
		if err != nil {
			return Credentials{}, err
		}
		if strings.HasSuffix(client.file, ".conf") {
			issued.files[client.file] = Kubeconfig(c.Server(), ca.Cert, pair)
		} else {
			issued.files[client.file+".crt"], issued.files[client.file+".key"] = pair.Cert, pair.Key
		}
	}
	return issued, nil
}

// Etcd runs the store. It forgets nothing while the lab lives and need not
// survive a crash of the machine, so it never syncs.
func (c ControlPlane) Etcd() host.Process {
	return c.process("etcd", "etcd",
		"--data-dir="+c.path("etcd"),
		"--unsafe-no-fsync",
		"--listen-client-urls=http://127.0.0.1:2379",
		"--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380",
		"--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=default=http://127.0.0.1:2380",
		"--log-level=warn",
	)
}

// APIServer runs the API server.
func (c ControlPlane) APIServer() host.Process {
	listen := "0.0.0.0"
	if c.Addresses[len(c.Addresses)-1].Is6() {
		listen = "::"
	}
	return c.process("kube-apiserver", filepath.Join(c.BinDir, "kube-apiserver"),
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address="+listen,
		"--advertise-address="+c.Addresses[0].String(),
		fmt.Sprintf("--secure-port=%d", APIPort),
		"--service-cluster-ip-range="+joinPrefixes(c.ServicePrefixes),
		"--client-ca-file="+c.path("ca.crt"),
		"--tls-cert-file="+c.path("apiserver.crt"),
		"--tls-private-key-file="+c.path("apiserver.key"),
		"--service-account-key-file="+c.path("sa.pub"),
		"--service-account-signing-key-file="+c.path("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		// Names of nodes resolve nowhere.
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-certificate-authority="+c.path("ca.crt"),
		"--kubelet-client-certificate="+c.path("apiserver-kubelet.crt"),
		"--kubelet-client-key="+c.path("apiserver-kubelet.key"),
		"--cert-dir="+c.path("apiserver"),
		"--profiling=false",
	)
}

// ControllerManager runs the controller manager, which gives nodes their Pod CIDRs.
func (c ControlPlane) ControllerManager() host.Process {
	args := []string{
		"--kubeconfig=" + c.path("controller-manager.conf"),
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + joinPrefixes(c.PodPrefixes),
		"--service-cluster-ip-range=" + joinPrefixes(c.ServicePrefixes),
		"--service-account-private-key-file=" + c.path("sa.key"),
		"--root-ca-file=" + c.path("ca.crt"),
		"--use-service-account-credentials=true",
		"--leader-elect=false",
		"--cert-dir=" + c.path("controller-manager"),
		"--profiling=false",
	}
	if len(c.PodPrefixes) == 2 {
		args = append(args, fmt.Sprintf("--node-cidr-mask-size-ipv4=%d", c.NodeMaskIPv4), fmt.Sprintf("--node-cidr-mask-size-ipv6=%d", c.NodeMaskIPv6))
	} else if c.PodPrefixes[0].Addr().Is4() {
		args = append(args, fmt.Sprintf("--node-cidr-mask-size=%d", c.NodeMaskIPv4))
	} else {
		args = append(args, fmt.Sprintf("--node-cidr-mask-size=%d", c.NodeMaskIPv6))
	}
	return c.process("kube-controller-manager", filepath.Join(c.BinDir, "kube-controller-manager"), args...)
}

// Scheduler runs the scheduler.
func (c ControlPlane) Scheduler() host.Process {
	return c.process("kube-scheduler", filepath.Join(c.BinDir, "kube-scheduler"),
		"--kubeconfig="+c.path("scheduler.conf"),
		"--leader-elect=false",
		"--cert-dir="+c.path("scheduler"),
		"--profiling=false",
	)
}

func (c ControlPlane) path(name string) string { return filepath.Join(c.Dir, name) }

func (c ControlPlane) process(name, program string, args ...string) host.Process {
	return host.Process{
		Name:    name,
		Argv:    append([]string{program}, args...),
		Log:     filepath.Join(c.Dir, "log", name+".log"),
		Restart: true,
	}
}

func joinPrefixes(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = p.String()
	}
	return strings.Join(texts, ",")
}
