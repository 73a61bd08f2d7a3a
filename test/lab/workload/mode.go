// SPDX-License-Identifier: Apache-2.0

package workload

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
)

// modeDeadline bounds how long a mode may take to be in force everywhere.
const modeDeadline = time.Minute

// SwitchMode applies the manifest of another mode, with settings of its own in
// the configuration document, and waits until every node's agent has the
// configuration in force and all is well.
func SwitchMode(ctx context.Context, lab *cluster.Lab, mode string, settings map[string]string) error {
	if err := ApplyMode(ctx, lab, mode, settings); err != nil {
		return err
	}
	version, err := lab.Kubectl(ctx, "-n", "kube-system", "get", "configmap", "waymark-config", "-o", "jsonpath={.metadata.resourceVersion}")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, modeDeadline)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		err := inForce(ctx, lab, version)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil { // not one that was cut short
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("mode %s is not in force everywhere: %w", mode, last)
		case <-ticker.C:
		}
	}
}

// ApplyMode is SwitchMode that waits for nothing.
func ApplyMode(ctx context.Context, lab *cluster.Lab, mode string, settings map[string]string) error {
	all := maps.Clone(lab.Description.Settings)
	maps.Copy(all, settings)
	manifest := filepath.Join(lab.Source, "manifests", "waymark-"+strings.ToLower(mode)+".yaml")
	return lab.Apply(ctx, manifest, all)
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
