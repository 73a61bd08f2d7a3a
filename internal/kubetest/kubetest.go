// SPDX-License-Identifier: Apache-2.0

package kubetest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/test/lab/binaries"
	"github.com/waymark-net/waymark/test/lab/cluster"
)

// BinaryEnv names the environment variable with the path of the Kubernetes
// binary of test/lab/kube.
const BinaryEnv = "WAYMARK_KUBE_BINARY"

const (
	adminToken = "kubetest-admin"
	// startTime bounds the start of both programs, also on a busy machine.
	startTime = 3 * time.Minute
)

// Cluster is a running control plane without nodes or controllers.
type Cluster struct {
	// Config is an administrator's.
	Config *rest.Config
	// Kubeconfig is a file with the same for kubectl.
	Kubeconfig string
	dir        string
}

// Run runs body with a control plane of its own, in namespaces of its own and in
// parallel with other tests; see testnet.Run, which it calls.
func Run(t *testing.T, body func(t *testing.T, cluster *Cluster)) {
	t.Helper()
	// Before the namespaces: a first build needs the way to the module proxy.
	binary, err := kubeBinary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	testnet.Run(t, func(t *testing.T, _ *testnet.Namespace) { body(t, start(t, binary)) })
}

// start runs a control plane until the test ends.
func start(t *testing.T, binary string) *Cluster {
	t.Helper()
	dir := t.TempDir()
	apiserver := filepath.Join(dir, "kube-apiserver")
	key, tokens := filepath.Join(dir, "sa.key"), filepath.Join(dir, "tokens.csv")
	if err := errors.Join(
		os.Symlink(binary, apiserver),
		os.Symlink(binary, filepath.Join(dir, "kubectl")),
		writeKey(key),
		os.WriteFile(tokens, []byte(adminToken+",admin,admin,system:masters\n"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	const etcdURL = "http://127.0.0.1:2379"
	for _, argv := range [][]string{
		{"etcd", "--data-dir", filepath.Join(dir, "etcd"), "--unsafe-no-fsync",
			"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL},
		{apiserver, "--etcd-servers=" + etcdURL, "--cert-dir=" + filepath.Join(dir, "certs"),
			"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
			"--secure-port=6443", "--token-auth-file=" + tokens, "--authorization-mode=Node,RBAC",
			"--service-cluster-ip-range=10.96.0.0/16,fd00:96::/112", "--allow-privileged=true",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
			"--disable-admission-plugins=ServiceAccount"},
	} {
		program(t, dir, argv)
	}
	c := &Cluster{
		Config: &rest.Config{
			Host: "https://127.0.0.1:6443", BearerToken: adminToken,
			TLSClientConfig: rest.TLSClientConfig{Insecure: true}, // self-signed, and no way out of the namespace
			QPS:             -1,
		},
		Kubeconfig: filepath.Join(dir, "kubeconfig"), dir: dir,
	}
	if err := errors.Join(c.waitReady(t.Context()), c.writeKubeconfig()); err != nil {
		t.Fatal(err)
	}
	return c
}

// program runs a program, with its output in a log file, until the test ends.
func program(t *testing.T, dir string, argv []string) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, filepath.Base(argv[0])+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, dir
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", argv[0], err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed: there is nothing to learn
		_ = log.Close()
	})
}

// kubeBinary returns the path of the multi-call binary of test/lab/kube: the
// one that BinaryEnv names, else the lab's, built if it is not in its cache.
func kubeBinary(ctx context.Context) (string, error) {
	if path := os.Getenv(BinaryEnv); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%s: %w", BinaryEnv, err)
		}
		return path, nil
	}
	root, err := cluster.Source()
	if err != nil {
		return "", err
	}
	folder, err := binaries.Build(ctx, binaries.Params{Source: filepath.Join(root, "test/lab/kube"), CacheDir: cluster.CacheDir()})
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(filepath.Join(folder, "kube-apiserver"))
}

func writeKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

// waitReady waits until the API answers and has its default objects.
func (c *Cluster) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	client, err := kubernetes.NewForConfig(c.Config)
	if err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err == nil {
			_, err = client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(c.dir, "kube-apiserver.log"))
			return fmt.Errorf("kube-apiserver not ready in %s: %w; the end of its log:\n%s", startTime, err, log[max(0, len(log)-4000):])
		case <-tick.C:
		}
	}
}

func (c *Cluster) writeKubeconfig() error {
	const name = "kubetest"
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: c.Config.Host, InsecureSkipTLSVerify: true}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: adminToken}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, c.Kubeconfig)
}

// As returns the configuration of another user, such as a ServiceAccount whose
// token is bound to a Pod on the node; node may be empty.
func (c *Cluster) As(user, node string) *rest.Config {
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	if node != "" {
		config.Impersonate.Extra = map[string][]string{"authentication.kubernetes.io/node-name": {node}}
	}
	return config
}

// Kubectl runs kubectl with stdin and returns what it printed, also when it failed.
func (c *Cluster) Kubectl(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(c.dir, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig, "HOME="+c.dir)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ClusterPolicies is the file with the CustomResourceDefinition of
// ClusterNetworkPolicies, of the module that the product takes them from.
func ClusterPolicies(t *testing.T) string {
	t.Helper()
	module, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/network-policy-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(module)), "config/crd/experimental/policy.networking.k8s.io_clusternetworkpolicies.yaml")
}
