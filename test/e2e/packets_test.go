// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/image"
	probe "github.com/waymark-net/waymark/test/lab/probe/check"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
)

// trafficInNoEncap are the cases for a lab in noEncap that knows nothing yet of
// its paths.
func trafficInNoEncap(t *testing.T, lab *cluster.Lab) {
	check(t, "hostPort", func(t *testing.T) { checkHostPort(t, lab) })
	check(t, "large packets", func(t *testing.T) { checkMTU(t, lab, lab.Topology.Spec.MTU) })
	check(t, "SNAT", func(t *testing.T) { checkSNAT(t, lab) })
	check(t, "MTU that is set", func(t *testing.T) { checkSetMTU(t, lab) })
	check(t, "path MTU", func(t *testing.T) { checkPathMTU(t, lab) })
}

// trafficInEncap are those for a lab in encap.
func trafficInEncap(t *testing.T, lab *cluster.Lab) {
	check(t, "hostPort", func(t *testing.T) { checkHostPort(t, lab) })
	check(t, "SNAT", func(t *testing.T) { checkSeenAs(t, lab, true) })
}

// hostPort is the port of the node behind which the Pod of checkHostPort echoes.
const hostPort = 30700

// hostPortPod is on n1.
const hostPortPod = `apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: %[2]s, labels: {app: hostport}}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 0
  containers:
  - name: probe
    image: %[3]s
    imagePullPolicy: IfNotPresent
    args: [serve]
    ports:
    - {containerPort: %[4]d, hostPort: %[5]d, protocol: TCP}
    - {containerPort: %[4]d, hostPort: %[5]d, protocol: UDP}
`

// checkHostPort asks a port of n1 that leads to a Pod there, from everywhere.
func checkHostPort(t *testing.T, lab *cluster.Lab) {
	t.Helper()
	const name = "hostport"
	pod := fmt.Sprintf(hostPortPod, name, workload.Namespace, image.Probe, echoPort, hostPort)
	if err := lab.ApplyObjects(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	defer kubectl(t, lab, "-n", workload.Namespace, "delete", "pod", name, "--now")
	kubectl(t, lab, "-n", workload.Namespace, "wait", "--for=condition=Ready", "--timeout=60s", "pod/"+name)
	ends := endpoints(t, lab)
	var targets []probe.Target
	for _, a := range ends["n1"].Addresses {
		for _, protocol := range []string{probe.TCP, probe.UDP} {
			targets = append(targets, probe.Target{
				Name: familyName(a) + " " + protocol, Protocol: protocol, Address: a, Port: hostPort, Size: 3000,
			})
		}
	}
	asked := func(from string, answered bool) {
		t.Helper()
		err := cluster.Until(t.Context(), 10*time.Second, func(ctx context.Context) error {
			results, err := ends[from].Ask(ctx, targets...)
			if err != nil {
				return err
			}
			var errs []error
			for _, r := range results {
				if (r.OK && r.Host == name) != answered {
					errs = append(errs, fmt.Errorf("%s: answered by %q, want an answer %t: %s", r.Name, r.Host, answered, r.Error))
				}
			}
			return errors.Join(errs...)
		})
		if err != nil {
			t.Errorf("hostPort from %s: %v", from, err)
		}
	}
	everybody := []string{topology.Client, "n1", "n2", "n3", "a@n1", "a@n2", "a@n3"}
	for _, from := range everybody {
		asked(from, true)
	}
	// The Pod's policies see who it is.
	applyPolicies(t, lab, policyObject("hostport", `{podSelector: {matchLabels: {app: hostport}}, policyTypes: [Ingress]}`))
	for i := range targets {
		targets[i].Millis = denyMillis
	}
	for _, from := range everybody {
		asked(from, from == "n1")
	}
}

// checkSNAT changes the settings and looks under which address the client sees
// a Pod, and a Pod on another node does.
func checkSNAT(t *testing.T, lab *cluster.Lab) {
	var outside []string
	client, _ := lab.Topology.Host(topology.Client)
	for _, i := range client.Interfaces {
		for _, p := range i.Addresses {
			outside = append(outside, strconv.Quote(p.Masked().String()))
		}
	}
	spared := "[" + strings.Join(outside, ", ") + "]"
	for _, c := range []struct {
		name     string
		settings map[string]string
		asNode   bool
	}{
		{"Never", map[string]string{"snat": "Never"}, false},
		{"Auto, client in nonMasqueradeCIDRs", map[string]string{"snat": "Auto", "nonMasqueradeCIDRs": spared}, false},
		{"Always, client in nonMasqueradeCIDRs", map[string]string{"snat": "Always", "nonMasqueradeCIDRs": spared}, true},
		{"Auto", nil, true},
	} {
		check(t, c.name, func(t *testing.T) {
			switchMode(t, lab, variant{c.name, "noEncap", c.settings})
			checkSeenAs(t, lab, c.asNode)
		})
	}
}

// checkSeenAs checks under which address the client sees Pods: the node's or
// their own. Within the cluster it is always their own.
func checkSeenAs(t *testing.T, lab *cluster.Lab, asNode bool) {
	t.Helper()
	ends := endpoints(t, lab)
	for _, from := range []string{"a@n1", "a@n3"} {
		pod := ends[from]
		var targets []probe.Target
		var wants []netip.Addr
		for _, to := range []string{topology.Client, "b@n1", "b@n2", "n2"} {
			for _, a := range ends[to].Addresses {
				want := sameFamily(pod, a)
				if to == topology.Client && asNode {
					want = sameFamily(ends[pod.Node], a)
				}
				for _, protocol := range []string{probe.TCP, probe.UDP} {
					targets = append(targets, probe.Target{Name: to, Protocol: protocol, Address: a, Port: echoPort})
					wants = append(wants, want)
				}
			}
		}
		for i, r := range ask(t, pod, targets...) {
			if seen := r.Client.Addr(); !r.OK || seen != wants[i] {
				t.Errorf("%s to %s by %s %s: seen as %s, want %s; %s %s", from, r.Name,
					familyName(wants[i]), targets[i].Protocol, seen, wants[i], r.Reason, r.Error)
			}
		}
	}
}

// echoHeaders are the bytes of the headers before the payload of an ICMP echo.
func echoHeaders(a netip.Addr) int {
	if a.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

// checkMTU checks that the Pods of all nodes have exactly this MTU, that packets
// as large reach every kind of end in one piece, and larger data in several.
// Interfaces are changed in place, after the rest of the configuration.
func checkMTU(t *testing.T, lab *cluster.Lab, mtu int) {
	t.Helper()
	ends := endpoints(t, lab)
	for from, others := range map[string][]string{
		"a@n1": {"b@n1", "b@n2", "b@n3", topology.Client},
		"a@n2": {"b@n3"},
		"a@n3": {"b@n3", "b@n1", topology.Client},
	} {
		var targets []probe.Target
		for _, to := range others {
			for _, a := range ends[to].Addresses {
				targets = append(targets, mtuTargets(to, a, mtu)...)
			}
		}
		err := cluster.Until(t.Context(), 20*time.Second, func(ctx context.Context) error {
			results, err := ends[from].Ask(ctx, targets...)
			if err != nil {
				return err
			}
			return judgeSizes(targets, results, mtu)
		})
		if err != nil {
			t.Errorf("from %s at MTU %d: %v", from, mtu, err)
		}
	}
}

// mtuTargets are a packet that fits exactly, one that is a byte larger, and
// more than fits.
func mtuTargets(to string, a netip.Addr, mtu int) []probe.Target {
	size := mtu - echoHeaders(a)
	return []probe.Target{
		{Name: to, Protocol: probe.ICMP, Address: a, Size: size, DontFragment: true},
		{Name: to, Protocol: probe.ICMP, Address: a, Size: size + 1, DontFragment: true},
		{Name: to, Protocol: probe.ICMP, Address: a, Size: 2*mtu + 1},
		{Name: to, Protocol: probe.UDP, Address: a, Port: echoPort, Size: 2*mtu + 1},
		{Name: to, Protocol: probe.TCP, Address: a, Port: echoPort, Size: 1 << 20, Millis: 10000},
	}
}

// judgeSizes complains unless all is answered but what is too large to leave
// the sender.
func judgeSizes(targets []probe.Target, results []probe.Result, mtu int) error {
	var errs []error
	for i, r := range results {
		want := ""
		if size := targets[i].Size; targets[i].DontFragment && size+echoHeaders(targets[i].Address) > mtu {
			want = probe.TooLarge
		}
		if r.Reason != want {
			errs = append(errs, fmt.Errorf("to %s by %s %s of %d bytes: %q %s, want %q",
				r.Name, familyName(targets[i].Address), targets[i].Protocol, targets[i].Size, r.Reason, r.Error, want))
		}
	}
	return errors.Join(errs...)
}

// checkSetMTU sets an MTU that is smaller than the one found.
func checkSetMTU(t *testing.T, lab *cluster.Lab) {
	switchMode(t, lab, variant{"MTU 1400", "noEncap", map[string]string{"mtu": "1400"}})
	checkMTU(t, lab, 1400)
	switchMode(t, lab, variant{"MTU found", "noEncap", nil})
	checkMTU(t, lab, lab.Topology.Spec.MTU)
}

// narrow is the MTU of a link in the middle of the way.
const narrow = 1300

// checkPathMTU narrows the link between rack A and the spine. The routers'
// answers have to reach Pods, masqueraded or not, and nodes; connections and
// datagrams then find the size that fits.
func checkPathMTU(t *testing.T, lab *cluster.Lab) {
	link, _ := lab.Topology.Link("torA-spine")
	ctx := context.WithoutCancel(t.Context())
	setMTU := func(mtu int) {
		for _, end := range []topology.End{link.A, link.B} {
			if _, err := lab.Exec(ctx, end.Host, "ip", "link", "set", end.Interface, "mtu", strconv.Itoa(mtu)); err != nil {
				t.Error(err)
			}
		}
	}
	setMTU(narrow)
	defer forgetPathMTUs(ctx, t, lab)
	defer setMTU(link.MTU)
	ends := endpoints(t, lab)
	for _, pair := range [][2]string{
		{"a@n1", "a@n3"}, {"a@n3", "a@n1"}, {"a@n1", topology.Client}, {"n1", "a@n3"}, {"n3", "a@n1"},
	} {
		from, to := ends[pair[0]], ends[pair[1]]
		var learn, after []probe.Target
		for _, a := range to.Addresses {
			// The answer is some 100 bytes longer and fits the MTU of Pods: a router
			// that fragments fragments makes some that are too small for the tracker
			// of the userspace datapath (400 bytes at least, but for the last).
			udp := probe.Target{Protocol: probe.UDP, Address: a, Port: echoPort, Size: 1330}
			learn = append(learn, udp)
			after = append(after, udp,
				probe.Target{Protocol: probe.TCP, Address: a, Port: echoPort, Size: 1 << 20, Millis: 10000},
				probe.Target{Protocol: probe.ICMP, Address: a, Size: narrow - echoHeaders(a), DontFragment: true})
		}
		// What is too large is lost at the router, which says so, either here
		// or, when the answer is as large, at the other end.
		for i, r := range ask(t, from, learn...) {
			if !r.OK && r.Reason != probe.TooLarge {
				t.Errorf("%s to %s: first datagram by %s: %s: %s", from.Name, to.Name, familyName(learn[i].Address), r.Reason, r.Error)
			}
		}
		for i, r := range ask(t, from, after...) {
			if !r.OK {
				t.Errorf("%s to %s: %d bytes by %s %s: %s: %s", from.Name, to.Name,
					after[i].Size, familyName(after[i].Address), after[i].Protocol, r.Reason, r.Error)
			}
		}
	}
}

// forgetPathMTUs removes what was learned about paths: it is kept for ten minutes.
func forgetPathMTUs(ctx context.Context, t *testing.T, lab *cluster.Lab) {
	t.Helper()
	const flush = `ip route flush cache; ip -6 route flush cache
for ns in /var/run/netns/*; do
	nsenter --net="$ns" sh -c 'ip route flush cache; ip -6 route flush cache' || true
done`
	for _, h := range lab.Topology.WithRole(topology.RoleNode, topology.RoleClient) {
		// A namespace may go at any moment, and a lab's client has none.
		if _, err := lab.Exec(ctx, h.Name, "sh", "-c", flush); err != nil {
			t.Error(err)
		}
	}
}
