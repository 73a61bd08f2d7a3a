// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/waymark-net/waymark/test/lab/kubernetes"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// readyDeadline is generous: every node unpacks nothing but starts several
// daemons, and machines are small.
const readyDeadline = 5 * time.Minute

// tellAPIServer makes the ConfigMap by which the product finds the API server:
// nothing in the lab implements the Service "kubernetes" before the product does.
func (l *Lab) tellAPIServer(ctx context.Context) error {
	server := netip.AddrPortFrom(l.controlPlane().Addresses[0], kubernetes.APIPort)
	object := fmt.Sprintf(`apiVersion: v1
kind: ConfigMap
metadata: {name: waymark-apiserver, namespace: kube-system}
data: {KUBERNETES_SERVICE_HOST: %q, KUBERNETES_SERVICE_PORT: %q}
`, server.Addr(), strconv.Itoa(kubernetes.APIPort))
	return Until(ctx, apiDeadline, func(ctx context.Context) error { return l.ApplyObjects(ctx, object) })
}

// ApplyObjects applies objects given as YAML, over whatever others own of them.
func (l *Lab) ApplyObjects(ctx context.Context, objects string) error {
	_, err := l.kubectl(ctx, strings.NewReader(objects), "apply", "--server-side", "--force-conflicts", "-f", "-")
	return err
}

// install applies the manifest of the description, and what makes the cluster's
// name server, and waits until the nodes are ready. The name server starts
// beside what needs no names: nobody waits for it.
func (l *Lab) install(ctx context.Context) error {
	path := l.Description.manifest(l.Source)
	err := l.progress.step("applying "+path+" and the name server", func() error {
		objects, err := adapt(path, l.Description.Settings)
		if err != nil {
			return err
		}
		return l.ApplyObjects(ctx, objects+"\n---\n"+dnsObjects(l.ClusterDNS()))
	})
	if err != nil {
		return err
	}
	if l.Description.routes() {
		if err := l.progress.step("making BGPPeers of the ToRs", func() error { return l.applyPeers(ctx) }); err != nil {
			return err
		}
	}
	return l.progress.step("waiting for nodes to be ready", func() error { return l.WaitReady(ctx) })
}

// Apply applies a manifest with settings in its configuration document, as
// Description.Settings has them.
func (l *Lab) Apply(ctx context.Context, manifest string, settings map[string]string) error {
	objects, err := adapt(manifest, settings)
	if err != nil {
		return err
	}
	return l.ApplyObjects(ctx, objects)
}

// adapt reads a manifest and sets fields in its configuration document.
func adapt(manifest string, settings map[string]string) (string, error) {
	data, err := os.ReadFile(manifest)
	if err != nil {
		return "", fmt.Errorf("manifest: %w", err)
	}
	adapted, err := setInManifest(data, settings)
	if err != nil {
		return "", fmt.Errorf("manifest %s: %w", manifest, err)
	}
	return string(adapted), nil
}

func (l *Lab) applyPeers(ctx context.Context) error {
	_, err := l.Kubectl(ctx, "wait", "--for=condition=Established", "--timeout=60s", "crd/bgppeers.waymark.io")
	if err != nil {
		return err
	}
	return l.ApplyObjects(ctx, l.PeerObjects())
}

// PeerObjects is the YAML of the BGPPeers with which the nodes peer with their
// ToRs as these are configured, and of the Secret with the password if there is one.
func (l *Lab) PeerObjects() string {
	settings := l.Topology.Spec.Routers
	var b bytes.Buffer
	if settings.Password != "" {
		fmt.Fprintf(&b, `apiVersion: v1
kind: Secret
metadata: {name: lab-bgp, namespace: kube-system}
stringData: {password: %q}
`, settings.Password)
	}
	for _, tor := range l.Topology.WithRole(topology.RoleToR) {
		for _, a := range tor.Addresses() {
			if families := l.sessionFamilies(tor, a); families != "" {
				writePeer(&b, tor, a, families, settings)
			}
		}
	}
	return b.String()
}

// sessionFamilies are the families of the session with a ToR's address, empty
// if there is none.
func (l *Lab) sessionFamilies(tor topology.Host, a netip.Addr) string {
	inRack := false
	for _, p := range l.Topology.RackPrefixes(tor.Rack) {
		inRack = inRack || p.Contains(a)
	}
	family := topology.IPv6
	if a.Is4() {
		family = topology.IPv4
	}
	session := l.Topology.Spec.Routers.Session
	switch {
	case !inRack:
		return ""
	case session == topology.PerFamily:
		return string(family)
	case string(session) == string(family):
		return string(topology.IPv4) + ", " + string(topology.IPv6)
	}
	return ""
}

func writePeer(b *bytes.Buffer, tor topology.Host, a netip.Addr, families string, settings topology.Routers) {
	suffix := "ipv6"
	if a.Is4() {
		suffix = "ipv4"
	}
	fmt.Fprintf(b, `---
apiVersion: waymark.io/v1alpha1
kind: BGPPeer
metadata: {name: %s-%s}
spec:
  nodeSelector: {matchLabels: {%s: %s}}
  address: %q
  asn: %d
  families: [%s]
  timers: {holdTime: %s, keepaliveTime: %s, connectRetryTime: 1s}
`, strings.ToLower(tor.Name), suffix, RackLabel, RackLabelValue(tor.Rack), a, tor.ASN, families, settings.Hold, settings.Keepalive)
	if settings.Password != "" {
		b.WriteString("  passwordSecretRef: {name: lab-bgp, key: password}\n")
	}
	if settings.GTSM {
		b.WriteString("  gtsm: {maxHops: 1}\n")
	}
	if settings.BFD {
		b.WriteString("  bfd: {detectMultiplier: 8}\n")
	}
	if settings.DefaultRoute {
		b.WriteString("  import: {allowDefaultRoute: true}\n")
	}
}

// WaitReady waits until the product's Pods are rolled out and all nodes ready.
func (l *Lab) WaitReady(ctx context.Context) error {
	timeout := fmt.Sprintf("--timeout=%s", readyDeadline)
	for _, workload := range []string{
		"daemonset/waymark-ovs", "daemonset/waymark-speaker", "daemonset/waymark-agent", "deployment/waymark-controller",
	} {
		if _, err := l.Kubectl(ctx, "-n", "kube-system", "rollout", "status", workload, timeout); err != nil {
			return err
		}
	}
	_, err := l.Kubectl(ctx, "wait", "--for=condition=Ready", "nodes", "--all", timeout)
	return err
}
