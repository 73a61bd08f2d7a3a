// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
)

// variant is a traffic mode with settings.
type variant struct {
	name, mode string
	settings   map[string]string
}

// TestDualStack runs everything that takes the default lab, which starts in
// noEncap; every case leaves it in noEncap with its nodes and Pods.
func TestDualStack(t *testing.T) {
	lab := newLab(t, "dual", nil)
	deploy(t, lab)
	check(t, "noEncap", func(t *testing.T) {
		checkRouters(t, lab, true)
		checkMatrix(t, lab, "noEncap")
	})
	for _, v := range []variant{
		{"encap Geneve", "encap", nil},
		{"encap VXLAN", "encap", map[string]string{"tunnel.type": "vxlan"}},
		{"encap Geneve over IPv6", "encap", map[string]string{"tunnel.underlay": "ipv6"}},
		{"hybrid", "hybrid", nil},
	} {
		check(t, v.name, func(t *testing.T) {
			switchMode(t, lab, v)
			checkMatrix(t, lab, v.mode)
		})
	}
	check(t, "back to noEncap", func(t *testing.T) {
		switchMode(t, lab, variant{"noEncap", "noEncap", nil})
		checkRouters(t, lab, true)
		checkMatrix(t, lab, "noEncap")
	})
}

// TestIPv4Only is also the lab with jumbo frames.
func TestIPv4Only(t *testing.T) { oneFamily(t, "ipv4", topology.IPv4, 9000) }

// TestIPv6Only is also the lab with an odd MTU.
func TestIPv6Only(t *testing.T) { oneFamily(t, "ipv6", topology.IPv6, 1442) }

func oneFamily(t *testing.T, name string, families topology.Families, mtu int) {
	lab := newLab(t, name, func(d *cluster.Description) {
		d.Network.Families = families
		d.Network.MTU = mtu
	})
	deploy(t, lab)
	check(t, "noEncap", func(t *testing.T) {
		checkRouters(t, lab, true)
		checkMatrix(t, lab, "noEncap")
	})
	check(t, "encap", func(t *testing.T) {
		switchMode(t, lab, variant{"encap", "encap", nil})
		checkMatrix(t, lab, "encap")
	})
}

func deploy(t *testing.T, lab *cluster.Lab) {
	t.Helper()
	if err := workload.Deploy(t.Context(), lab); err != nil {
		t.Fatal(err)
	}
}

// switchMode applies the manifest of another mode and waits until every node's
// agent has the configuration in force and all is well.
func switchMode(t *testing.T, lab *cluster.Lab, v variant) {
	t.Helper()
	settings := maps.Clone(lab.Description.Settings)
	maps.Copy(settings, v.settings)
	manifest := filepath.Join(lab.Source, "manifests", "waymark-"+strings.ToLower(v.mode)+".yaml")
	if err := lab.Apply(t.Context(), manifest, settings); err != nil {
		t.Fatal(err)
	}
	version := configVersion(t, lab)
	eventually(t, time.Minute, func(ctx context.Context) error {
		return inForce(ctx, lab, version)
	})
}

func configVersion(t *testing.T, lab *cluster.Lab) string {
	t.Helper()
	out, err := lab.Kubectl(t.Context(), "-n", "kube-system", "get", "configmap", "waymark-config", "-o", "jsonpath={.metadata.resourceVersion}")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// inForce complains about nodes whose agent has not the version of the
// configuration, or is not ready.
func inForce(ctx context.Context, lab *cluster.Lab, version string) error {
	out, err := lab.Kubectl(ctx, "get", "nodes", "-o", "json")
	if err != nil {
		return err
	}
	var list struct {
		Items []struct {
			Metadata struct {
				Name        string
				Annotations map[string]string
			}
			Status struct {
				Conditions []struct{ Type, Status, Message string }
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return err
	}
	for _, n := range list.Items {
		if got := n.Metadata.Annotations["waymark.io/configuration"]; got != version {
			return fmt.Errorf("node %s has version %q of the configuration in force, want %s", n.Metadata.Name, got, version)
		}
		for _, c := range n.Status.Conditions {
			if c.Type == "WaymarkNetworkReady" && c.Status != "True" {
				return fmt.Errorf("node %s: %s", n.Metadata.Name, c.Message)
			}
		}
	}
	return nil
}
