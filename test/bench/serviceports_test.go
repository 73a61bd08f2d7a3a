// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// portBlock are ports of a Pod that one target has for itself. Where a Service
// and another target shared a port, a connection to one of them could become,
// translated, the same as one to the other from the same port of the client that
// is open or was a moment ago.
type portBlock struct{ first, count int }

func (p portBlock) port(n int) int { return p.first + n }

// String is a range as the probe reads it.
func (p portBlock) String() string { return fmt.Sprintf("%d-%d", p.first, p.first+p.count-1) }

// servicePorts are the ports at which a Pod is measured.
type servicePorts struct {
	direct   portBlock         // one that no Service leads to
	measured map[int]portBlock // by the number of endpoints
	followed portBlock         // each an endpoint in turn
	all      portBlock
}

// layPorts lays blocks one behind the other.
func layPorts(first int, endpoints []int, followed int) servicePorts {
	p := servicePorts{measured: map[int]portBlock{}, all: portBlock{first: first}}
	block := func(count int) portBlock {
		b := portBlock{p.all.first + p.all.count, count}
		p.all.count += count
		return b
	}
	p.direct = block(1)
	for _, n := range endpoints {
		p.measured[n] = block(n)
	}
	p.followed = block(followed)
	return p
}

func TestLayPorts(t *testing.T) {
	got := layPorts(20000, []int{10, 1000}, 11)
	want := servicePorts{
		direct:   portBlock{20000, 1},
		measured: map[int]portBlock{10: {20001, 10}, 1000: {20011, 1000}},
		followed: portBlock{21011, 11},
		all:      portBlock{20000, 1022},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(servicePorts{}, portBlock{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	owner := map[int]string{}
	for name, b := range map[string]portBlock{"direct": got.direct, "10": got.measured[10], "1000": got.measured[1000], "followed": got.followed} {
		for n := range b.count {
			if other := owner[b.port(n)]; other != "" {
				t.Errorf("port %d is of %s and of %s", b.port(n), other, name)
			}
			owner[b.port(n)] = name
		}
	}
	if len(owner) != got.all.count {
		t.Errorf("%d ports are taken, %d are served", len(owner), got.all.count)
	}
	if text := got.followed.String(); text != "21011-21021" {
		t.Errorf("range %s", text)
	}
}
