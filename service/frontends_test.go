// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"testing"
	"time"
)

// TestSets: which endpoints are told apart where only some may serve. What clients
// keep is by set, so with affinity it is the same set whether or not there are
// endpoints at other nodes.
func TestSets(t *testing.T) {
	here, elsewhere := ready("10.10.1.2:80"), ready("10.10.2.2:80")
	here[0].Node, elsewhere[0].Node = "n1", "n2"
	both := append(ready(), here[0], elsewhere[0])
	for _, tc := range []struct {
		name            string
		internal, outer bool
		affinity        time.Duration
		endpoints       []Endpoint
		want            string
	}{
		{"any endpoint", false, false, 0, both, "[local false: 2]"},
		{"any endpoint, kept", false, false, time.Minute, both, "[local false: 2]"},
		{"of the node", true, false, 0, both, "[local true: 1]"},
		{"of the node, kept", true, false, time.Minute, both, "[local true: 1]"},
		{"of the node, where all are", true, false, 0, here, "[local false: 1]"},
		{"of the node, where all are, kept", true, false, time.Minute, here, "[local true: 1]"},
		{"of the node from outside", false, true, 0, both, "[local false: 2 local true: 1]"},
		{"of the node from outside, kept", false, true, time.Minute, both, "[local false: 2 local true: 1]"},
		{"of the node from outside, where all are", false, true, 0, here, "[local false: 1]"},
		{"of the node from outside, where all are, kept", false, true, time.Minute, here, "[local false: 1 local true: 1]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := Service{
				Key: web, ClusterIPs: webService().ClusterIPs[:1], InternalLocal: tc.internal, ExternalLocal: tc.outer, Affinity: tc.affinity,
				Ports: []Port{{Protocol: TCP, Port: 80, NodePort: 30080, Endpoints: tc.endpoints}},
			}
			if !tc.outer {
				s.Ports[0].NodePort = 0
			}
			var got []string
			for _, set := range layOut(&s, Node{Name: "n1"}, nil).sets {
				got = append(got, fmt.Sprintf("local %t: %d", set.local, len(set.endpoints)))
			}
			if fmt.Sprint(got) != tc.want {
				t.Errorf("got %v, want %s", got, tc.want)
			}
		})
	}
}
