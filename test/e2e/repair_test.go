// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
)

const (
	ovsdb = "--db=unix:/var/run/openvswitch/db.sock"
	brInt = "unix:/var/run/openvswitch/br-int.mgmt"
	// regained bounds how long Pods may be cut off by something that has to be
	// made again. It takes seconds, which the log of the test has; the kubelet
	// alone takes ten of them to start a container again.
	regained = 30 * time.Second
)

// podPort is a shell function that prints the port of one of the node's Pods.
const podPort = `port() { ovs-vsctl ` + ovsdb + ` list-ports br-int | grep -E '^wm[0-9a-f]{12}$' | head -n1; }; `

// kill is a shell function that kills a program of the node without warning.
const kill = `kill9() { kill -9 $(pgrep -x "$1"); }; `

// damage is something done to the network of a node by hand.
type damage struct {
	name, node, script string
	// says is what the agent has to log about it; may be empty.
	says string
}

var damages = []damage{
	{"flows deleted", "n1", "ovs-ofctl -O OpenFlow15 del-flows " + brInt, ""},
	{"port of a Pod deleted", "n1", podPort + "ovs-vsctl " + ovsdb + " del-port br-int $(port)", "Attaching a Pod that the switch lost"},
	{"interface of a Pod deleted", "n1", podPort + "ip link delete $(port)", "Making the lost link of a Pod again"},
	{"gateway's addresses removed", "n2", "ip address flush dev wm-gw0", ""},
	{"routes deleted", "n2", "ip route flush proto 87; ip -6 route flush proto 87", ""},
	{"neighbours and firewall deleted", "n2", "ip neighbour flush dev wm-gw0 nud permanent; nft delete table inet waymark", ""},
	{"gateway set down", "n2", "ip link set wm-gw0 down", ""},
	// The bridge can be back before the switch has seen that it was gone.
	{"br-int deleted", "n3", "ovs-vsctl " + ovsdb + " del-br br-int", `"Changed the switch" loop="node" change="add bridge" bridge="br-int"`},
	{"switch killed", "n1", kill + "kill9 ovs-vswitchd", "Lost the switch"},
	{"database killed", "n2", kill + "kill9 ovsdb-server", "Lost the connection to OVSDB"},
	{"database wiped", "n3", kill + "rm /var/lib/waymark/openvswitch/conf.db; kill9 ovsdb-server", "Lost the connection to OVSDB"},
}

// checkRepair damages one node after the other and checks that the agent
// repairs it: Pods are reached again in seconds, nothing is left different, and
// the agent has said what it saw.
func checkRepair(t *testing.T, lab *cluster.Lab) {
	for _, d := range damages {
		check(t, d.name, func(t *testing.T) {
			before, err := parts(t.Context(), lab, d.node)
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			exec(t, lab, d.node, "sh", "-ec", d.script)
			checkQuickMatrix(t, lab, regained)
			t.Logf("everything is reached %s after", time.Since(begun).Round(100*time.Millisecond))
			eventually(t, regained, func(ctx context.Context) error {
				after, err := parts(ctx, lab, d.node)
				if err != nil {
					return err
				}
				if after != before {
					return fmt.Errorf("%s has\n%s\nhad\n%s", d.node, after, before)
				}
				_, err = agent.get(ctx, lab, d.node, "/readyz")
				return errors.Join(err, conditionSays(ctx, lab, d.node, "True"))
			})
			if d.says == "" {
				return
			}
			since := fmt.Sprintf("--since=%ds", int(time.Since(begun).Seconds())+5)
			pod := strings.TrimSpace(kubectl(t, lab, "-n", "kube-system", "get", "pods", "-l", "app.kubernetes.io/name=waymark-agent",
				"--field-selector=spec.nodeName="+d.node, "-o", "jsonpath={.items[0].metadata.name}"))
			if err := contains(kubectl(t, lab, "-n", "kube-system", "logs", pod, since), d.says); err != nil {
				t.Errorf("log of the agent: %v", err)
			}
		})
	}
	check(t, "switch stopped", func(t *testing.T) { checkStoppedSwitch(t, lab) })
}

// checkStoppedSwitch lets the switch of a node answer no more, and checks that
// the agent says so as long as that lasts.
func checkStoppedSwitch(t *testing.T, lab *cluster.Lab) {
	const node = "n2"
	signal := func(ctx context.Context, name string) error {
		_, err := lab.Exec(ctx, node, "sh", "-ec", "kill -"+name+" $(pgrep -x ovsdb-server)")
		return err
	}
	if err := signal(t.Context(), "STOP"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := signal(context.WithoutCancel(t.Context()), "CONT"); err != nil {
			t.Error(err)
		}
		checkQuickMatrix(t, lab, regained)
		eventually(t, regained, func(ctx context.Context) error { return conditionSays(ctx, lab, node, "True") })
	}()
	eventually(t, regained, func(ctx context.Context) error {
		_, err := agent.get(ctx, lab, node, "/readyz")
		if err == nil {
			return errors.New("the agent is ready")
		}
		return errors.Join(contains(err.Error(), "OVSDB"), conditionSays(ctx, lab, node, "False", "OVSDB"))
	})
	// The switch forwards without its database.
	checkQuickMatrix(t, lab, regained)
}

// parts lists what the agent made on a node.
func parts(ctx context.Context, lab *cluster.Lab, node string) (string, error) {
	const list = "ovs-vsctl " + ovsdb + " list-ports br-int; ip -brief address show dev wm-gw0 scope global | cut -c32-; " +
		"ip route show proto 87; ip -6 route show proto 87; nft list table inet waymark | grep -c masquerade"
	return lab.Exec(ctx, node, "sh", "-ec", list)
}
