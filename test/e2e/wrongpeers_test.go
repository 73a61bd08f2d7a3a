// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/lab/workload"
)

// checkPeerAdmission applies wrong BGPPeers: kubectl prints what is wrong.
func checkPeerAdmission(t *testing.T, lab *cluster.Lab) {
	for _, c := range []struct{ name, spec, want string }{
		{"address and interface", `address: 192.0.2.1, interface: eth0, asn: 65001`, "exactly one of address, interface, defaultGateway and nodes must be given"},
		{"neither", `asn: 65001`, "exactly one of address, interface, defaultGateway and nodes must be given"},
		{"no address", `address: 192.0.2.256, asn: 65001`, "must be an IPv4 or IPv6 address"},
		{"ASN 0", `address: 192.0.2.1, asn: 0`, "spec.asn"},
		{"no ASN", `address: 192.0.2.1`, "asn must be given"},
		{"hold time", `address: 192.0.2.1, asn: 65001, timers: {holdTime: 1s}`, "holdTime must be 3s to 65535s"},
		{"keepalive time", `address: 192.0.2.1, asn: 65001, timers: {holdTime: 9s, keepaliveTime: 5s}`, "keepaliveTime must be at most a third of holdTime"},
		{"multihop and GTSM", `address: 192.0.2.1, asn: 65001, ebgpMultihop: 3, gtsm: {maxHops: 1}`, "ebgpMultihop and gtsm exclude each other"},
		{"import", `address: 192.0.2.1, asn: 65001, import: {prefixes: [{cidr: 192.0.2.0/33}]}`, "must be a CIDR"},
		{"unknown field", `address: 192.0.2.1, asn: 65001, colour: blue`, "colour"},
	} {
		object := fmt.Sprintf("apiVersion: waymark.io/v1alpha1\nkind: BGPPeer\nmetadata: {name: wrong}\nspec: {%s}\n", c.spec)
		err := kubectlApply(t.Context(), lab, object)
		switch {
		case err == nil:
			kubectl(t, lab, "delete", "bgppeer", "wrong")
			t.Errorf("%s: it was accepted", c.name)
		case !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: kubectl says %v, want %q", c.name, err, c.want)
		}
	}
}

// session is a BGPSession as its agent wrote it.
func session(ctx context.Context, lab *cluster.Lab, name string) (v1alpha1.BGPSession, error) {
	var s v1alpha1.BGPSession
	out, err := lab.Kubectl(ctx, "get", "bgpsession", name, "-o", "json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// sessionSays complains unless a session is in a state and one of its conditions
// has all the words.
func sessionSays(ctx context.Context, lab *cluster.Lab, name string, state v1alpha1.SessionState, words ...string) error {
	s, err := session(ctx, lab, name)
	if err != nil {
		return err
	}
	if (s.Status.State == v1alpha1.SessionEstablished) != (state == v1alpha1.SessionEstablished) {
		return fmt.Errorf("session %s is %s: %s", name, s.Status.State, s.Status.LastError)
	}
	var errs []error
	for _, c := range s.Status.Conditions {
		err := contains(c.Message, words...)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("session %s: %w", name, errors.Join(errs...))
}

// checkPeerPassword names a Secret that does not exist, then gives it a wrong
// password, then the right one. All other sessions stay as they are.
func checkPeerPassword(t *testing.T, lab *cluster.Lab) {
	const (
		peer, affected = "torb-ipv4", "n3.torb-ipv4"
		secret         = "e2e-password"
	)
	others := []string{"n3.torb-ipv6", "n1.tora-ipv4", "n2.tora-ipv6"}
	before := map[string]string{}
	for _, name := range others {
		before[name] = since(t, lab, name)
	}
	ctx := context.WithoutCancel(t.Context())
	defer func() {
		_, peerErr := lab.Kubectl(ctx, "patch", "bgppeer", peer, "--type=json", "-p", `[{"op": "remove", "path": "/spec/passwordSecretRef"}]`)
		_, routerErr := lab.Vtysh(ctx, "torB", "configure terminal", "router bgp", "no neighbor nodes-ipv4 password")
		_, secretErr := lab.Kubectl(ctx, "-n", "kube-system", "delete", "secret", secret, "--ignore-not-found")
		if err := errors.Join(peerErr, routerErr, secretErr); err != nil {
			t.Error(err)
		}
		eventually(t, time.Minute, func(ctx context.Context) error {
			return errors.Join(sessionSays(ctx, lab, affected, v1alpha1.SessionEstablished), quickMatrix(ctx, lab))
		})
	}()
	setPassword := func(password string) {
		object := fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: kube-system}\nstringData: {password: %s}\n", secret, password)
		if err := lab.ApplyObjects(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	kubectl(t, lab, "patch", "bgppeer", peer, "--type=merge", "-p", `{"spec": {"passwordSecretRef": {"name": "`+secret+`"}}}`)
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		return sessionSays(ctx, lab, affected, v1alpha1.SessionInvalid, secret)
	})
	if _, err := lab.Vtysh(t.Context(), "torB", "configure terminal", "router bgp", "neighbor nodes-ipv4 password right"); err != nil {
		t.Fatal(err)
	}
	setPassword("wrong")
	eventually(t, time.Minute, func(ctx context.Context) error {
		return sessionSays(ctx, lab, affected, v1alpha1.SessionActive, "password")
	})
	setPassword("right")
	eventually(t, time.Minute, func(ctx context.Context) error {
		return sessionSays(ctx, lab, affected, v1alpha1.SessionEstablished)
	})
	for _, name := range others {
		if now := since(t, lab, name); now != before[name] {
			t.Errorf("session %s has its state since %s, had it since %s", name, now, before[name])
		}
	}
}

// since is since when a session is established.
func since(t *testing.T, lab *cluster.Lab, name string) string {
	t.Helper()
	s, err := session(t.Context(), lab, name)
	if err != nil {
		t.Fatal(err)
	}
	if s.Status.State != v1alpha1.SessionEstablished || s.Status.Since == nil {
		t.Fatalf("session %s: %+v", name, s.Status)
	}
	return s.Status.Since.String()
}

const (
	strangerASN  = 65200
	strangerPeer = "stranger"
	stranger     = "n1." + strangerPeer
)

// checkStrangePeer makes n1 peer with a router that announces what it should
// not: everything is refused, counted and reported, and no packet goes astray.
func checkStrangePeer(t *testing.T, lab *cluster.Lab) {
	client, _ := lab.Topology.Host(topology.Client)
	object := fmt.Sprintf(`apiVersion: waymark.io/v1alpha1
kind: BGPPeer
metadata: {name: %s}
spec:
  nodeSelector: {matchLabels: {kubernetes.io/hostname: n1}}
  address: %q
  asn: %d
  ebgpMultihop: 8
  import: {prefixes: [{cidr: 20.0.0.0/8, le: 32}]}
`, strangerPeer, client.Addresses()[0], strangerASN)
	if err := kubectlApply(t.Context(), lab, object); err != nil {
		t.Fatal(err)
	}
	defer func() {
		kubectl(t, lab, "delete", "bgppeer", strangerPeer)
		eventually(t, 20*time.Second, func(ctx context.Context) error {
			if routes, err := ownRoutes(ctx, lab, nodeNames(lab)...); err != nil || strings.Contains(routes, "20.") {
				return fmt.Errorf("routes of the peer are left: %w: %.500s", err, routes)
			}
			return conditionSays(ctx, lab, "n1", "True")
		})
	}()
	before, err := ownRoutes(t.Context(), lab, nodeNames(lab)...)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "announces what it must not", func(t *testing.T) {
		prefixes := forbidden(t, lab)
		a := beStranger(t, lab)
		defer a.close()
		if err := a.announce(prefixes...); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, func(ctx context.Context) error {
			return errors.Join(
				sessionCounts(ctx, lab, int64(len(prefixes)), 0),
				sessionSays(ctx, lab, stranger, v1alpha1.SessionEstablished,
					"IPv4: 2 left out (OwnPrefix)", "IPv6: 2 left out (OwnPrefix)",
					"IPv4: 2 left out (NodeAddress)", "IPv6: 2 left out (NodeAddress)",
					"IPv4: 1 left out (DefaultRoute)", "IPv6: 1 left out (DefaultRoute)"))
		})
		after, err := ownRoutes(t.Context(), lab, nodeNames(lab)...)
		if err != nil || after != before {
			t.Errorf("routes changed: %v\n%s\nwere\n%s", err, after, before)
		}
		checkQuickMatrix(t, lab, regained)
	})
	check(t, "announces 100000 prefixes", func(t *testing.T) {
		const count = 100000
		var prefixes []netip.Prefix
		for i := range count {
			prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
		}
		a := beStranger(t, lab)
		defer a.close()
		if err := a.announce(prefixes...); err != nil {
			t.Fatal(err)
		}
		eventually(t, time.Minute, func(ctx context.Context) error {
			return errors.Join(
				sessionCounts(ctx, lab, count, 1000),
				sessionSays(ctx, lab, stranger, v1alpha1.SessionEstablished, strconv.Itoa(count-1000), "MaxPrefixes"))
		})
		checkQuickMatrix(t, lab, regained)
	})
}

// forbidden are the prefixes that no peer may announce to n1: in each family
// its own Pod CIDR, a part of it, two nodes' addresses and a default route.
func forbidden(t *testing.T, lab *cluster.Lab) []netip.Prefix {
	t.Helper()
	nodes, err := workload.PodCIDRs(t.Context(), lab)
	if err != nil {
		t.Fatal(err)
	}
	var out []netip.Prefix
	for _, n := range nodes {
		if n.Name == "n1" {
			for _, p := range n.PodCIDRs {
				out = append(out, p, netip.PrefixFrom(p.Addr(), p.Bits()+1))
			}
		}
	}
	for _, name := range []string{"n1", "n3"} {
		h, _ := lab.Topology.Host(name)
		for _, a := range h.Addresses() {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return append(out, netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
}

// beStranger opens the session once the node knows the peer.
func beStranger(t *testing.T, lab *cluster.Lab) *announcer {
	t.Helper()
	node, _ := lab.Topology.Host("n1")
	var a *announcer
	eventually(t, 20*time.Second, func(ctx context.Context) (err error) {
		a, err = dialAnnouncer(ctx, lab, topology.Client, node.Addresses()[0], strangerASN)
		return err
	})
	return a
}

func sessionCounts(ctx context.Context, lab *cluster.Lab, received, accepted int64) error {
	s, err := session(ctx, lab, stranger)
	if err != nil {
		return err
	}
	if s.Status.Received != received || s.Status.Accepted != accepted {
		return fmt.Errorf("session %s: %d received and %d accepted, want %d and %d: %+v", stranger,
			s.Status.Received, s.Status.Accepted, received, accepted, s.Status.Conditions)
	}
	return nil
}

// ownRoutes are the routes of Waymark on nodes.
func ownRoutes(ctx context.Context, lab *cluster.Lab, nodes ...string) (string, error) {
	var b strings.Builder
	for _, node := range nodes {
		for _, family := range []string{"-4", "-6"} {
			out, err := lab.Exec(ctx, node, "ip", family, "route", "show", "proto", "87")
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "%s:\n%s", node, out)
		}
	}
	return b.String(), nil
}
