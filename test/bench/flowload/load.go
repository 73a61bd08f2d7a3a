// SPDX-License-Identifier: Apache-2.0

package flowload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/flows"
)

const (
	// each is how many rules a policy has, and how many addresses a group.
	each = 100
	// maxPods is how many Pods of the node policies select.
	maxPods = 100
	// firstPort is the destination port of the first rule of every policy.
	firstPort = 8000
)

// Load is a number of addresses and as many rules, a multiple of 100: groups of
// 100 addresses and policies of 100 rules. Each policy isolates one Pod of the
// node, up to 100 of them in turn, and each rule accepts a TCP port of its own
// from one group, so that no two rules are one conjunction.
type Load int

func (l Load) policies() int { return int(l) / each }

func (l Load) pods() int { return min(l.policies(), maxPods) }

func id(kind byte, n int) policy.ID {
	var out policy.ID
	out[0] = kind
	binary.BigEndian.PutUint32(out[1:], uint32(n))
	return out
}

func group(n int) policy.ID { return id('g', n) }

// address is unlike that of every other number below 2^24.
func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

func podKey(n int) policy.PodKey {
	return policy.PodKey{Namespace: "bench", Name: fmt.Sprintf("pod-%d", n)}
}

func policyKey(n int) policy.Key {
	return policy.Key{Namespace: "bench", Name: fmt.Sprintf("policy-%d", n)}
}

// port is the OpenFlow port of a Pod.
func port(pod int) uint32 { return uint32(10 + pod) }

// Install is everything, for an Engine that has nothing.
func (l Load) Install() flows.Change {
	u := &policy.Update{}
	c := flows.Change{Update: u}
	for n := range l.pods() {
		u.Identities = append(u.Identities, &policy.Identity{ID: id('i', n), Subjects: []policy.ID{id('s', n)}})
		u.Pods = append(u.Pods, policy.Pod{Key: podKey(n), Identity: id('i', n)})
		c.Attached = append(c.Attached, flows.LocalPod{Port: port(n), Pod: podKey(n)})
	}
	for n := range l.policies() {
		g := policy.GroupUpdate{ID: group(n), Whole: true}
		for i := range each {
			g.Added = append(g.Added, address(each*n+i))
		}
		u.Groups = append(u.Groups, g)
		u.Policies = append(u.Policies, l.policy(n))
	}
	return c
}

func (l Load) policy(n int) *policy.Policy {
	subject := id('s', n%l.pods())
	p := &policy.Policy{
		Key: policyKey(n), Tier: policy.TierNamespace, Subject: subject,
		Isolates: [policy.Directions]bool{policy.Ingress: true},
	}
	for i := range each {
		p.Rules = append(p.Rules, policy.Rule{
			Direction: policy.Ingress, Action: policy.Accept, Index: i, Subject: subject,
			Peers: []policy.ID{group((n + i) % l.policies())},
			Ports: []policy.PortRange{{Protocol: policy.TCP, First: firstPort + uint16(i), Last: firstPort + uint16(i)}},
		})
	}
	return p
}

// OneMore is the change by which one of the groups gets one more address, another
// one for each n from 0.
func (l Load) OneMore(n int) flows.Change {
	return flows.Change{Update: &policy.Update{Groups: []policy.GroupUpdate{
		{ID: group(n % l.policies()), Added: []netip.Addr{address(int(l) + n)}},
	}}}
}

// Remove takes everything away.
func (l Load) Remove() flows.Change {
	u := &policy.Update{}
	c := flows.Change{Update: u}
	for n := range l.policies() {
		u.GonePolicies = append(u.GonePolicies, policyKey(n))
		u.GoneGroups = append(u.GoneGroups, group(n))
	}
	for n := range l.pods() {
		u.GonePods = append(u.GonePods, podKey(n))
		u.GoneIdentities = append(u.GoneIdentities, id('i', n))
		c.Detached = append(c.Detached, port(n))
	}
	return c
}

// Size is how many flows a patch sets and removes.
func Size(p flows.Patch) int {
	n := 0
	for _, c := range p.Changes {
		n += len(c.Set) + len(c.Remove)
	}
	return n
}

// Bundle is a patch as ovs-ofctl --bundle add-flows reads it, with the cookies
// that an openflow.Target gives the flows.
func Bundle(p flows.Patch) []byte {
	var out bytes.Buffer
	for _, c := range p.Changes {
		cookie := openflow.Cookie(c.Owner)
		for _, f := range c.Set {
			f.Cookie = cookie
			fmt.Fprintln(&out, "add", f)
		}
		for _, k := range c.Remove {
			fmt.Fprintln(&out, "delete_strict", k)
		}
	}
	return out.Bytes()
}

// String is the number with commas: 10,000.
func (l Load) String() string {
	if l < 1000 {
		return strconv.Itoa(int(l))
	}
	return fmt.Sprintf("%s,%03d", l/1000, int(l%1000))
}
