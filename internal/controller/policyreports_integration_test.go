// SPDX-License-Identifier: Apache-2.0

//go:build integration

package controller_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/waymark-net/waymark/internal/kubetest"
)

// TestPolicyNotUnderstood has the controller say so with the rights that the
// manifests give it.
func TestPolicyNotUnderstood(t *testing.T) {
	kubetest.Run(t, func(t *testing.T, cluster *kubetest.Cluster) {
		kubectl(t, cluster, "", "apply", "--server-side", "-f", "../../manifests/waymark-noencap.yaml", "-f", kubetest.ClusterPolicies(t))
		kubectl(t, cluster, "", "wait", "--for=condition=Established", "crd/clusternetworkpolicies.policy.networking.k8s.io")
		kubectl(t, cluster, clusterPolicy("good", "{networks: [10.0.0.0/8]}"), "apply", "-f", "-")
		kubectl(t, cluster, clusterPolicy("bad", "{domainNames: [example.com]}"), "apply", "-f", "-")
		kubectl(t, cluster, `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: default}
spec:
  podSelector: {}
  ingress: [{from: [{ipBlock: {cidr: "::ffff:10.0.0.0/104"}}]}]
`, "apply", "-f", "-")
		stop := serve(t, cluster, "one", "127.0.0.1:10462", "127.0.0.1:10463")
		defer stop()
		condition := func(name, want string) {
			t.Helper()
			eventually(t, func() error {
				got := kubectl(t, cluster, "", "get", "clusternetworkpolicies", name, "-o",
					`jsonpath={range .status.conditions[?(@.type=="waymark.io/Understood")]}{.status} {.reason} {.message}{end}`)
				if !strings.Contains(got, want) {
					return fmt.Errorf("condition of %s is %q, want %q", name, got, want)
				}
				return nil
			})
		}
		condition("good", "True Understood every field was understood")
		condition("bad", "False PolicyNotUnderstood spec.egress[0].to[0]")
		event := func(kind, name, want string) {
			t.Helper()
			eventually(t, func() error {
				got := kubectl(t, cluster, "", "get", "events", "-n", "default", "--field-selector",
					"reason=PolicyNotUnderstood,involvedObject.kind="+kind+",involvedObject.name="+name, "-o", `jsonpath={range .items[*]}{.type} {.message}{"\n"}{end}`)
				if strings.Count(got, "\n") != 1 || !strings.Contains(got, want) {
					return fmt.Errorf("Events on %s %s are %q, want one with %q", kind, name, got, want)
				}
				return nil
			})
		}
		event("ClusterNetworkPolicy", "bad", `domainNames: "example.com"`)
		event("NetworkPolicy", "web", `spec.ingress[0].from[0].ipBlock.cidr: "::ffff:10.0.0.0/104"`)
		kubectl(t, cluster, clusterPolicy("bad", "{networks: [10.0.0.0/8]}"), "apply", "-f", "-")
		condition("bad", "True")
	})
}

func clusterPolicy(name, peer string) string {
	return fmt.Sprintf(`
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: %s}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  egress: [{action: Accept, to: [%s]}]
`, name, peer)
}
