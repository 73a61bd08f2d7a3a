// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
)

// checkWrongInput gives a cluster in noEncap everything that it must refuse.
func checkWrongInput(t *testing.T, lab *cluster.Lab) {
	check(t, "configuration", func(t *testing.T) { checkWrongConfiguration(t, lab) })
	check(t, "configuration at the first start", func(t *testing.T) { checkFirstStart(t, lab) })
	check(t, "BGPPeers at admission", func(t *testing.T) { checkPeerAdmission(t, lab) })
	check(t, "password of a peer", func(t *testing.T) { checkPeerPassword(t, lab) })
	check(t, "announcements", func(t *testing.T) { checkStrangePeer(t, lab) })
	check(t, "CNI requests", func(t *testing.T) { checkWrongCNI(t, lab) })
	check(t, "Pod CIDRs of nodes", func(t *testing.T) { checkWrongNodes(t, lab) })
	check(t, "Pod CIDRs of nodes that join", func(t *testing.T) { checkHalfGoodNodes(t, lab) })
}

// goodDocument is the configuration that wrong ones replace.
func goodDocument(t *testing.T, lab *cluster.Lab) string {
	t.Helper()
	return kubectl(t, lab, "-n", "kube-system", "get", "configmap", "waymark-config", "-o", `jsonpath={.data.waymark\.yaml}`)
}

// setDocument replaces the configuration document.
func setDocument(ctx context.Context, lab *cluster.Lab, document string) error {
	object, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]string{"name": "waymark-config", "namespace": "kube-system"},
		"data":     map[string]string{"waymark.yaml": document},
	})
	if err != nil {
		return err
	}
	return lab.ApplyObjects(ctx, string(object))
}

// wrongDocument has one mistake of every kind, and the words that name each.
const wrongDocument = `apiVersion: config.waymark.io/v1alpha1
kind: WaymarkConfiguration
mode: teleport
datapath: netdev
mtu: 1000
snat: Sometimes
nonMasqueradeCIDRs: [192.0.2.0/33, 198.51.100.1/24]
tunnel: {type: gre, port: many}
colour: blue
`

// wrongDurations is on its own, since a condition has room for so many mistakes.
const wrongDurations = `apiVersion: config.waymark.io/v1alpha1
kind: WaymarkConfiguration
datapath: netdev
bgp: {asn: 0, gracefulRestart: {restartTime: 5000s}}
networkPolicy: {podTimeout: 1h}
`

var wrongFields = []string{
	"mode", `"teleport"`, "colour", "mtu", "1000", "1280", "snat", `"Sometimes"`,
	"nonMasqueradeCIDRs[0]", "nonMasqueradeCIDRs[1]", "tunnel.type", `"gre"`, "tunnel.port",
}

// checkWrongConfiguration gives wrong documents to a running cluster: each is
// refused as a whole, every mistake is named, and the last good one stays in force.
func checkWrongConfiguration(t *testing.T, lab *cluster.Lab) {
	good := goodDocument(t, lab)
	defer restoreDocument(t, lab, good)
	for _, c := range []struct {
		name, document string
		words          []string
	}{
		{"every kind of mistake", wrongDocument, wrongFields},
		{"wrong numbers", wrongDurations, []string{"bgp.asn", "bgp.gracefulRestart.restartTime", "networkPolicy.podTimeout"}},
		{"no YAML", "mode: [encap", []string{"not a YAML document"}},
		{"nothing", "", []string{"empty document"}},
	} {
		if err := setDocument(t.Context(), lab, c.document); err != nil {
			t.Fatal(err)
		}
		for _, node := range nodeNames(lab) {
			eventually(t, 20*time.Second, func(ctx context.Context) error {
				return errors.Join(
					configValid(ctx, lab, node, "0"),
					conditionSays(ctx, lab, node, "False", c.words...))
			})
		}
		eventually(t, 20*time.Second, func(ctx context.Context) error {
			return eventSays(ctx, lab, "kube-system", "ConfigMap/waymark-config", "ConfigurationRefused", c.words...)
		})
		logs := kubectl(t, lab, "-n", "kube-system", "logs", "daemonset/waymark-agent", "--since=60s")
		if err := contains(logs, append([]string{"Configuration refused"}, plain(c.words)...)...); err != nil {
			t.Errorf("%s: the agent's log: %v", c.name, err)
		}
		checkQuickMatrix(t, lab, regained)
	}
}

// plain leaves out words that a log puts in quotes of its own.
func plain(words []string) []string {
	var out []string
	for _, w := range words {
		out = append(out, strings.Trim(w, `"`))
	}
	return out
}

// checkFirstStart starts the agent of a node that knows no configuration with a
// wrong document: it says that it is not ready and why, and harms no Pod.
func checkFirstStart(t *testing.T, lab *cluster.Lab) {
	const node = "n3"
	good := goodDocument(t, lab)
	defer restoreDocument(t, lab, good)
	if err := setDocument(t.Context(), lab, wrongDocument); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func(ctx context.Context) error { return configValid(ctx, lab, node, "0") })
	exec(t, lab, node, "rm", "/var/lib/waymark/waymark.yaml")
	kubectl(t, lab, "-n", "kube-system", "delete", "pod", "-l", "app.kubernetes.io/name=waymark-agent",
		"--field-selector=spec.nodeName="+node, "--wait=false")
	eventually(t, time.Minute, func(ctx context.Context) error {
		_, err := agent.get(ctx, lab, node, "/readyz")
		if err == nil {
			return errors.New("the agent is ready")
		}
		return errors.Join(contains(err.Error(), "503", "mode", `"teleport"`, "tunnel.type"),
			configValid(ctx, lab, node, "0"),
			conditionSays(ctx, lab, node, "False", `"teleport"`))
	})
	out := kubectl(t, lab, "-n", "kube-system", "get", "pods", "-l", "app.kubernetes.io/name=waymark-agent",
		"--field-selector=spec.nodeName="+node, "-o", "jsonpath={.items[*].status.containerStatuses[0].ready}")
	if strings.Contains(out, "true") {
		t.Errorf("the agent's Pod counts as ready: %s", out)
	}
	checkQuickMatrix(t, lab, regained)
}

// restoreDocument makes the good document the one in force again.
func restoreDocument(t *testing.T, lab *cluster.Lab, good string) {
	t.Helper()
	if err := setDocument(t.Context(), lab, good); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodeNames(lab) {
		eventually(t, time.Minute, func(ctx context.Context) error {
			return errors.Join(configValid(ctx, lab, node, "1"), conditionSays(ctx, lab, node, "True"))
		})
	}
}

// configValid complains unless the agent of a node has that value in waymark_config_valid.
func configValid(ctx context.Context, lab *cluster.Lab, node, want string) error {
	out, err := agent.get(ctx, lab, node, "/metrics")
	if err != nil {
		return err
	}
	if !strings.Contains(out, "\nwaymark_config_valid "+want+"\n") {
		return fmt.Errorf("waymark_config_valid of %s is not %s", node, want)
	}
	return nil
}

// conditionSays complains unless the node's condition WaymarkNetworkReady has
// the status and its message all the words.
func conditionSays(ctx context.Context, lab *cluster.Lab, node, status string, words ...string) error {
	out, err := lab.Kubectl(ctx, "get", "node", node, "-o",
		`jsonpath={range .status.conditions[?(@.type=="WaymarkNetworkReady")]}{.status} {.message}{end}`)
	if err != nil {
		return err
	}
	got, message, _ := strings.Cut(out, " ")
	if got != status {
		return fmt.Errorf("WaymarkNetworkReady of %s is %s, want %s: %s", node, got, status, message)
	}
	if err := contains(message, words...); err != nil {
		return fmt.Errorf("condition of %s: %w", node, err)
	}
	return nil
}

// eventSays complains unless there is an Event about an object with all the words.
func eventSays(ctx context.Context, lab *cluster.Lab, namespace, object, reason string, words ...string) error {
	kind, name, _ := strings.Cut(object, "/")
	out, err := lab.Kubectl(ctx, "-n", namespace, "get", "events",
		"--field-selector=involvedObject.kind="+kind+",involvedObject.name="+name+",reason="+reason,
		"-o", `jsonpath={range .items[*]}{.message}{"\n"}{end}`)
	if err != nil {
		return err
	}
	last := fmt.Errorf("no Event %s about %s", reason, object)
	for line := range strings.Lines(out) {
		if last = contains(line, words...); last == nil {
			return nil
		}
	}
	return last
}

// contains complains about the words that a text lacks.
func contains(text string, words ...string) error {
	var missing []string
	for _, w := range words {
		if !strings.Contains(text, w) {
			missing = append(missing, w)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%q is not in: %s", missing, text)
	}
	return nil
}
