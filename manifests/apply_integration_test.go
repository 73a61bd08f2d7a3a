// SPDX-License-Identifier: Apache-2.0

//go:build integration

package manifests

import (
	"testing"

	"github.com/waymark-net/waymark/internal/kubetest"
)

// TestApply applies the rendered manifests one over the other, strictly
// validated by the server, which must warn of nothing and find nothing to
// change the second time.
func TestApply(t *testing.T) {
	kubetest.Run(t, func(t *testing.T, cluster *kubetest.Cluster) {
		for _, name := range []string{"noencap", "encap", "hybrid", "auto"} {
			file := "waymark-" + name + ".yaml"
			for _, how := range [][]string{
				{"apply", "--server-side", "--validate=strict", "--warnings-as-errors"},
				{"diff", "--server-side"},
			} {
				if out, err := cluster.Kubectl(t, "", append(how, "-f", file)...); err != nil {
					t.Errorf("kubectl %s -f %s: %v\n%s", how, file, err, out)
				}
			}
		}
	})
}
