// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/workload"
)

const cniSocket = "/var/run/waymark/cni.sock"

// Codes of the CNI specification, and two of the plugin's own.
const (
	cniOK               = 0
	cniUnknownContainer = 3
	cniEnvironment      = 4
	cniDecoding         = 6
	cniVersion          = 1
	cniTryAgain         = 11
	cniConflict         = 101
)

// cniAnswer is what the agent says to a CNI request.
type cniAnswer struct {
	Code    int                        `json:"code"`
	Msg     string                     `json:"msg"`
	Details string                     `json:"details"`
	IPs     []struct{ Address string } `json:"ips"`
}

// onSocket is a client of a server that listens on a UNIX socket of a host.
func onSocket(h *host.Host, socket string) *http.Client {
	return &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return h.DialContext(ctx, "unix", socket)
		},
	}}
}

// askCNI sends a request as the plugin does, to the agent of a node.
func askCNI(ctx context.Context, lab *cluster.Lab, node, body string) (cniAnswer, error) {
	var answer cniAnswer
	h, err := lab.Host(node)
	if err != nil {
		return answer, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/cni/v1", strings.NewReader(body))
	if err != nil {
		return answer, err
	}
	response, err := onSocket(h, cniSocket).Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	out, err := io.ReadAll(response.Body)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return answer, fmt.Errorf("CNI answer %.200q: %w", out, err)
	}
	if response.StatusCode != http.StatusOK && answer.Code == 0 {
		return answer, fmt.Errorf("CNI answer %s: %.200q", response.Status, out)
	}
	return answer, nil
}

// cniRequest renders a request about a container of a Pod. ADD waits until a
// Pod's policies are known, so it must be one that exists on the node.
func cniRequest(pod workload.Pod, command, container, netns string) string {
	return fmt.Sprintf(`{"command": %q, "containerID": %q, "netns": %q, "ifname": "eth0",
		"args": "K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s",
		"config": {"cniVersion": "1.0.0", "name": "waymark", "type": "waymark-cni"}}`, command, container, netns, pod.Namespace, pod.Name)
}

// mustCNI sends a request and checks the code of the answer.
func mustCNI(t *testing.T, lab *cluster.Lab, node, name, body string, code int, words ...string) cniAnswer {
	t.Helper()
	answer, err := askCNI(t.Context(), lab, node, body)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if answer.Code != code {
		t.Errorf("%s: code %d, want %d: %s %s", name, answer.Code, code, answer.Msg, answer.Details)
	} else if err := contains(answer.Msg+" "+answer.Details, words...); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return answer
}

// attachments lists all that the agent of a node keeps for Pods.
func attachments(t *testing.T, lab *cluster.Lab, node string) string {
	t.Helper()
	return exec(t, lab, node, "sh", "-ec", "ls /var/run/waymark/attachments; ls -R /var/lib/waymark/ipam; "+
		"ip -brief link show type veth | cut -d' ' -f1 | sort; ovs-vsctl "+ovsdb+" list-ports br-int")
}

// checkWrongCNI sends requests that no runtime should send: each gets the code
// that the specification has for it, and nothing of it stays.
func checkWrongCNI(t *testing.T, lab *cluster.Lab) {
	const node, netns = "n1", "/var/run/netns/e2e-wrong"
	pod := podsBySet(t, lab, "a")[node]
	before := attachments(t, lab, node)
	exec(t, lab, node, "ip", "netns", "add", "e2e-wrong")
	defer exec(t, lab, node, "ip", "netns", "delete", "e2e-wrong")
	for _, c := range []struct {
		name, body string
		code       int
		words      []string
	}{
		{"garbage", "\x00\xff{", cniDecoding, []string{"decoding request"}},
		{"nothing", "", cniDecoding, []string{"decoding request"}},
		{"unknown field", `{"command": "ADD", "colour": "blue"}`, cniDecoding, []string{"colour"}},
		{"wrong type", `{"command": 7}`, cniDecoding, []string{"command"}},
		{"unknown version", strings.Replace(cniRequest(pod, "ADD", "c1", netns), "1.0.0", "9.9.9", 1), cniVersion, []string{"9.9.9"}},
		{"unknown command", cniRequest(pod, "MOVE", "c1", netns), cniEnvironment, []string{"MOVE"}},
		{"no container", cniRequest(pod, "ADD", "", netns), cniEnvironment, []string{"CNI_CONTAINERID"}},
		{"container with a path", cniRequest(pod, "ADD", "../../etc", netns), cniEnvironment, []string{"containerID"}},
		{"no namespace", cniRequest(pod, "ADD", "c1", ""), cniEnvironment, []string{"CNI_NETNS"}},
		{"no interface", strings.Replace(cniRequest(pod, "ADD", "c1", netns), `"eth0"`, `""`, 1), cniEnvironment, []string{"interface"}},
		{"no Pod", strings.Replace(cniRequest(pod, "ADD", "c1", netns), "K8S_POD_NAME="+pod.Name, "", 1), cniEnvironment, []string{"K8S_POD_NAME"}},
		{"namespace that is gone", cniRequest(pod, "ADD", "c1", netns+"-gone"), cniUnknownContainer, []string{netns + "-gone"}},
		{"DEL of what is not there", cniRequest(pod, "DEL", "c1", netns+"-gone"), cniOK, nil},
	} {
		mustCNI(t, lab, node, c.name, c.body, c.code, c.words...)
	}
	if after := attachments(t, lab, node); after != before {
		t.Errorf("something was left:\n%s\nbefore:\n%s", after, before)
	}
	duplicateContainer(t, lab, node)
	if after := attachments(t, lab, node); after != before {
		t.Errorf("after a duplicate container something was left:\n%s\nbefore:\n%s", after, before)
	}
	checkQuickMatrix(t, lab, regained)
}

// duplicateContainer adds a container of a Pod of the node again: in the same
// namespace it gets what it has, in another one it is refused.
func duplicateContainer(t *testing.T, lab *cluster.Lab, node string) {
	t.Helper()
	pod := podsBySet(t, lab, "a")[node]
	record := exec(t, lab, node, "sh", "-ec", "cat $(ls /var/run/waymark/attachments/*.json | head -n1)")
	var have struct {
		ContainerID, NetNS string
		Addresses          []struct{ Address string }
	}
	if err := json.Unmarshal([]byte(record), &have); err != nil {
		t.Fatal(err)
	}
	again := mustCNI(t, lab, node, "ADD again", cniRequest(pod, "ADD", have.ContainerID, have.NetNS), cniOK)
	for i, ip := range again.IPs {
		if address, _, _ := strings.Cut(ip.Address, "/"); address != have.Addresses[i].Address {
			t.Errorf("ADD again gives %s, the Pod has %s", address, have.Addresses[i].Address)
		}
	}
	mustCNI(t, lab, node, "ADD of a container in another namespace",
		cniRequest(pod, "ADD", have.ContainerID, "/var/run/netns/e2e-wrong"), cniConflict, have.ContainerID)
}

// checkExhausted takes all addresses of a node whose Pod CIDR is small: the next
// Pod is refused with a reason, and a DEL makes room for it.
func checkExhausted(t *testing.T, lab *cluster.Lab, addresses int) {
	const node = "n2"
	pod := podsBySet(t, lab, "a")[node]
	before := attachments(t, lab, node)
	name := func(i int) string { return fmt.Sprintf("e2e-full%d", i) }
	var used []int
	defer func() {
		for _, i := range used {
			exec(t, lab, node, "ip", "netns", "delete", name(i))
		}
	}()
	full := -1
	for i := range addresses + 1 {
		exec(t, lab, node, "ip", "netns", "add", name(i))
		used = append(used, i)
		answer, err := askCNI(t.Context(), lab, node, cniRequest(pod, "ADD", name(i), "/var/run/netns/"+name(i)))
		if err != nil {
			t.Fatal(err)
		}
		if answer.Code != cniOK {
			full = i
			if err := contains(answer.Msg+" "+answer.Details, "address"); answer.Code != cniTryAgain || err != nil {
				t.Errorf("code %d, want %d: %s %s", answer.Code, cniTryAgain, answer.Msg, answer.Details)
			}
			break
		}
	}
	if full < 1 {
		t.Errorf("%d Pods were added on top of those there", full)
	}
	mustCNI(t, lab, node, "DEL", cniRequest(pod, "DEL", name(0), "/var/run/netns/"+name(0)), cniOK)
	mustCNI(t, lab, node, "ADD after DEL", cniRequest(pod, "ADD", name(full), "/var/run/netns/"+name(full)), cniOK)
	for _, i := range used {
		mustCNI(t, lab, node, "DEL", cniRequest(pod, "DEL", name(i), "/var/run/netns/"+name(i)), cniOK)
	}
	// The file of the address that was given last stays: it is not one of a Pod.
	if after := attachments(t, lab, node); withoutLast(after) != withoutLast(before) {
		t.Errorf("something was left:\n%s\nbefore:\n%s", after, before)
	}
	checkQuickMatrix(t, lab, regained)
}

func withoutLast(list string) string {
	var out []string
	for line := range strings.Lines(list) {
		if !strings.HasPrefix(line, "last_reserved_ip") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}
