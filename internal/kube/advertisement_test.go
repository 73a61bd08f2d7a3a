// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/api/v1alpha1"
	"github.com/waymark-net/waymark/routing"
	"github.com/waymark-net/waymark/service"
)

func communities(t *testing.T, texts ...string) []routing.Community {
	t.Helper()
	var out []routing.Community
	for _, text := range texts {
		c, err := routing.ParseCommunity(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func TestAdvertisements(t *testing.T) {
	local := node("n1", map[string]string{"rack": "a"}, "10.10.1.0/24", "fd10::/64")
	peers := []routing.Peer{{Name: "tor1", Export: routing.ExportRule{MED: new(uint32(1))}}, {Name: "tor2"}, {Name: "tor3"}}
	object := func(name string, spec v1alpha1.BGPAdvertisementSpec) v1alpha1.BGPAdvertisement {
		return v1alpha1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	}
	prefixes := func(peers []string, a routing.Attributes) []routing.Advertisement {
		var out []routing.Advertisement
		for _, p := range local.PodCIDRs {
			out = append(out, routing.Advertisement{Prefix: p, NextHops: local.Addresses, Peers: peers, Attributes: a})
		}
		return out
	}
	all := []string{"tor1", "tor2", "tor3"}
	none := routing.Attributes{}
	const allowed = "must be ASN:VALUE (two numbers up to 65535), a large community A:B:C (three numbers up to 4294967295), " +
		"or one of graceful-shutdown, accept-own, no-llgr, blackhole, no-export, no-advertise, no-export-subconfed, no-peer"
	tests := []struct {
		name    string
		objects []v1alpha1.BGPAdvertisement
		want    []routing.Advertisement
		wrong   []string
	}{
		{"none at all", nil, prefixes(nil, none), nil},
		{"empty", []v1alpha1.BGPAdvertisement{object("a", v1alpha1.BGPAdvertisementSpec{})}, prefixes(all, none), nil},
		{"other nodes only", []v1alpha1.BGPAdvertisement{object("a", v1alpha1.BGPAdvertisementSpec{
			NodeSelector: &v1alpha1.NodeSelector{MatchLabels: map[string]string{"rack": "b"}}})}, nil, nil},
		{"nothing", []v1alpha1.BGPAdvertisement{object("a", v1alpha1.BGPAdvertisementSpec{PodCIDRs: new(false)})}, nil, nil},
		{"merged by peer", []v1alpha1.BGPAdvertisement{
			object("a", v1alpha1.BGPAdvertisementSpec{Communities: []v1alpha1.Community{"64512:2", "no-export"},
				LocalPreference: new(int64(50)), MED: new(int64(5)), ASPathPrepend: new(int32(2))}),
			object("b", v1alpha1.BGPAdvertisementSpec{Peers: []string{"tor2", "tor9"}, Communities: []v1alpha1.Community{"64512:1", "64512:2", "65535:65281"},
				LocalPreference: new(int64(200)), MED: new(int64(0)), ASPathPrepend: new(int32(1))}),
			object("c", v1alpha1.BGPAdvertisementSpec{Peers: []string{"tor2", "tor3"}}),
			object("d", v1alpha1.BGPAdvertisementSpec{Peers: []string{"tor2"}, MED: new(int64(9)), ASPathPrepend: new(int32(3))}),
		}, append(
			prefixes([]string{"tor1", "tor3"}, routing.Attributes{
				Communities: communities(t, "64512:2", "no-export"), LocalPref: 50, MED: new(uint32(5)), Prepend: 2}),
			prefixes([]string{"tor2"}, routing.Attributes{
				Communities: communities(t, "64512:1", "64512:2", "no-export"), LocalPref: 200, MED: new(uint32(0)), Prepend: 1})...), nil},
		{"what a peer changes is not in it", []v1alpha1.BGPAdvertisement{object("a", v1alpha1.BGPAdvertisementSpec{
			MED: new(int64(4294967295)), LocalPreference: new(int64(4294967295)), ASPathPrepend: new(int32(10))})},
			prefixes(all, routing.Attributes{MED: new(uint32(4294967295)), LocalPref: 4294967295, Prepend: 10}), nil},
		{"bad ones are left out", []v1alpha1.BGPAdvertisement{
			object("a", v1alpha1.BGPAdvertisementSpec{Communities: []v1alpha1.Community{"internet", "1:2:3", "70000:1"},
				MED: new(int64(-1)), LocalPreference: new(int64(1 << 32)), ASPathPrepend: new(int32(0))}),
			object("b", v1alpha1.BGPAdvertisementSpec{NodeSelector: &v1alpha1.NodeSelector{
				MatchExpressions: []v1alpha1.NodeSelectorRequirement{{Key: "a", Operator: "Equals"}}}}),
		}, prefixes(all, routing.Attributes{Communities: communities(t, "1:2:3")}), []string{
			`BGPAdvertisement a: communities: community "internet": ` + allowed,
			`BGPAdvertisement a: communities: community "70000:1": ` + allowed,
			`BGPAdvertisement a: localPreference: 4294967296: must be 1..4294967295`,
			`BGPAdvertisement a: med: -1: must be 0..4294967295`,
			`BGPAdvertisement a: asPathPrepend: 0: must be 1..10`,
			`BGPAdvertisement b: nodeSelector: "Equals" is not a valid label selector operator`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &Snapshot{advertisements: test.objects}
			got := s.Advertisements(local, peers, nil)
			wrong := got.Wrong
			if diff := cmp.Diff(test.want, got.PodCIDRs, compareNet, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("advertisements (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.wrong, wrong); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServiceAdvertisements(t *testing.T) {
	local := node("n1", map[string]string{"rack": "a"}, "10.10.1.0/24", "fd10::/64")
	peers := []routing.Peer{{Name: "tor1"}, {Name: "tor2"}}
	all := []string{"tor1", "tor2"}
	served := func(kind service.AddressKind, a, app string) service.Announcement {
		return service.Announcement{Key: service.Key{Namespace: "default", Name: app}, Addr: netip.MustParseAddr(a), Kind: kind, Labels: map[string]string{"app": app}}
	}
	announced := []service.Announcement{
		served(service.LoadBalancerIP, "203.0.113.1", "web"), served(service.ExternalIP, "203.0.113.1", "web"),
		served(service.LoadBalancerIP, "2001:db8::1", "web"), served(service.ClusterIP, "10.96.0.1", "web"),
		served(service.LoadBalancerIP, "203.0.113.2", "db"), served(service.ClusterIP, "10.96.0.2", "db"),
		served(service.ExternalIP, "203.0.113.2", "other"),
	}
	to := func(prefix string, peers []string, a routing.Attributes) routing.Advertisement {
		return routing.Advertisement{Prefix: netip.MustParsePrefix(prefix), NextHops: local.Addresses, Peers: peers, Attributes: a}
	}
	balancers := []v1alpha1.ServiceAddress{v1alpha1.ServiceLoadBalancerIP}
	web := &v1alpha1.ServiceSelector{MatchLabels: map[string]string{"app": "web"}}
	none := routing.Attributes{}
	tests := []struct {
		name  string
		specs []v1alpha1.BGPAdvertisementSpec
		want  []routing.Advertisement
		pods  bool
		wrong []string
	}{
		{"none at all", nil, nil, true, nil},
		{"Pod CIDRs only", []v1alpha1.BGPAdvertisementSpec{{}}, nil, true, nil},
		{"one kind", []v1alpha1.BGPAdvertisementSpec{{Services: balancers}}, []routing.Advertisement{
			to("203.0.113.1/32", all, none), to("203.0.113.2/32", all, none), to("2001:db8::1/128", all, none)}, true, nil},
		{"an address of two kinds is one prefix", []v1alpha1.BGPAdvertisementSpec{
			{Services: []v1alpha1.ServiceAddress{"LoadBalancerIP", "ExternalIP", "ClusterIP"}, ServiceSelector: web, PodCIDRs: new(false)}},
			[]routing.Advertisement{to("10.96.0.1/32", all, none), to("203.0.113.1/32", all, none), to("2001:db8::1/128", all, none)}, false, nil},
		{"merged where both speak of it", []v1alpha1.BGPAdvertisementSpec{
			{Services: balancers, MED: new(int64(9)), Communities: []v1alpha1.Community{"1:1"}, PodCIDRs: new(false)},
			{Services: balancers, MED: new(int64(5)), Communities: []v1alpha1.Community{"1:2"}, ServiceSelector: web, Peers: []string{"tor2"}, PodCIDRs: new(false)},
		}, []routing.Advertisement{
			to("203.0.113.1/32", all[:1], routing.Attributes{MED: new(uint32(9)), Communities: communities(t, "1:1")}),
			to("203.0.113.1/32", all[1:], routing.Attributes{MED: new(uint32(5)), Communities: communities(t, "1:1", "1:2")}),
			to("203.0.113.2/32", all, routing.Attributes{MED: new(uint32(9)), Communities: communities(t, "1:1")}),
			to("2001:db8::1/128", all[:1], routing.Attributes{MED: new(uint32(9)), Communities: communities(t, "1:1")}),
			to("2001:db8::1/128", all[1:], routing.Attributes{MED: new(uint32(5)), Communities: communities(t, "1:1", "1:2")}),
		}, false, nil},
		{"another node's", []v1alpha1.BGPAdvertisementSpec{
			{Services: balancers, NodeSelector: &v1alpha1.NodeSelector{MatchLabels: map[string]string{"rack": "b"}}}}, nil, false, nil},
		{"a wrong selector selects nothing", []v1alpha1.BGPAdvertisementSpec{{Services: balancers, ServiceSelector: &v1alpha1.ServiceSelector{
			MatchExpressions: []v1alpha1.NodeSelectorRequirement{{Key: "app", Operator: "Like"}}}}},
			nil, true, []string{`BGPAdvertisement a0: serviceSelector: "Like" is not a valid label selector operator`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := &Snapshot{}
			for i, spec := range test.specs {
				s.advertisements = append(s.advertisements, v1alpha1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("a", i)}, Spec: spec})
			}
			got := s.Advertisements(local, peers, announced)
			if diff := cmp.Diff(test.want, got.Services, compareNet, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("advertisements (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.wrong, got.Wrong); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if pods := len(got.PodCIDRs) > 0; pods != test.pods {
				t.Errorf("Pod CIDRs are announced: %t", pods)
			}
		})
	}
}
