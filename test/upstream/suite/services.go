// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"regexp"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/image"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/upstream/programs"
	"github.com/waymark-net/waymark/test/upstream/specs"
)

// serviceNames matches the specs about Services and what they are made of.
var serviceNames = regexp.MustCompile(`\[sig-network\] (Services|Service CIDRs|Service endpoints latency|` +
	`EndpointSlice|EndpointSliceMirroring|DNS|DNS configMap nameserver|Networking Granular Checks:|` +
	`Traffic Distribution|Topology Hints|Conntrack|Connectivity Pod Lifecycle|NoSNAT|HostPort|` +
	`LoadBalancers|KubeProxy|KubeProxyNFAcct|\[Feature:IPv6DualStack\]|\[Feature:PerformanceDNS\]) `)

// serviceExclusions are the specs that no lab of ours can run.
var serviceExclusions = []exclusion{
	{regexp.MustCompile(`\[Feature:LoadBalancer\]`), "it needs a cloud that makes load balancers"},
	{regexp.MustCompile(`\[Provider:GCE\]`), "it needs Google's cloud"},
	{regexp.MustCompile(`DNS configMap nameserver Forward`), "it asks name servers of the internet"},
	{regexp.MustCompile(`\[sig-network\] (KubeProxy|KubeProxyNFAcct) `), "it looks into kube-proxy"},
	{regexp.MustCompile(`after restarting kube-proxy`), "it restarts kube-proxy"},
	{regexp.MustCompile(`after restarting apiserver`), "it restarts an API server that runs as a Pod"},
	{regexp.MustCompile(`\[Feature:PerformanceDNS\]`), "it makes 10,000 Services to measure the name server"},
	{regexp.MustCompile(`\[Feature:OffByDefault\]`), "it needs an alpha feature of the API server that is off"},
}

// dualStackNames matches the specs that need a cluster of both families.
var dualStackNames = regexp.MustCompile(`\[Feature:IPv6DualStack\]`)

// runServices runs the specs about Services of the end-to-end suite, those of
// Kubernetes' conformance first.
func (s *Suite) runServices(ctx context.Context, lab *cluster.Lab, r Run) ([]specs.Spec, error) {
	return s.runGinkgo(ctx, lab, r, s.serviceSelection(lab.Description.Network.Families))
}

func (s *Suite) serviceSelection(families topology.Families) selection {
	leftOut := append(s.withoutSCTP(), serviceExclusions...)
	if families != topology.Dual {
		leftOut = append(leftOut, exclusion{dualStackNames, "it needs a cluster of both families"})
	}
	return selection{names: serviceNames, leftOut: leftOut, passes: []string{"Conformance", "!Conformance"}}
}

// serviceImages are what the Pods of these specs run.
func serviceImages(p programs.Programs) []image.Packed {
	const registry = "registry.k8s.io/"
	own := map[string]string{"agnhost": p.Agnhost}
	return []image.Packed{
		agnhostImage(p, "2.56"),
		{Name: registry + "e2e-test-images/jessie-dnsutils:1.7", Recipe: image.Dnsutils},
		{Name: registry + "e2e-test-images/busybox:1.37.0-1", Recipe: image.Busybox},
		{Name: registry + "e2e-test-images/nginx:1.14-4", Recipe: image.Webserver, Programs: own},
		{Name: registry + "pause:3.10.1", Recipe: image.Pause, Programs: own},
		{
			Name: registry + "e2e-test-images/regression-issue-74839:1.2", Recipe: image.OutOfWindow,
			Programs: map[string]string{"out-of-window": p.OutOfWindow},
		},
	}
}

// agnhostImage is the image that the Pods of all suites run, in a version.
func agnhostImage(p programs.Programs, version string) image.Packed {
	return image.Packed{
		Name: "registry.k8s.io/e2e-test-images/agnhost:" + version, Recipe: image.Agnhost,
		Programs: map[string]string{"agnhost": p.Agnhost, "coredns": p.CoreDNS},
	}
}
