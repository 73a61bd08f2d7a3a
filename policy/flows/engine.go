// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
)

// Owners of flows.
const (
	OwnerPrefix = "policy/"
	// OwnerDenied is that of Denied.Flows.
	OwnerDenied    = OwnerPrefix + "denied"
	OwnerAddresses = OwnerPrefix + "addresses"
	OwnerBlocks    = OwnerPrefix + "blocks"
)

// OwnerPort is the owner of the flows of the interface at an OpenFlow port.
func OwnerPort(port uint32) string {
	return OwnerPrefix + "port/" + strconv.FormatUint(uint64(port), 10)
}

// OwnerTable is the owner of the flows of a table of rules that belong to no
// interface.
func OwnerTable(table uint8) string {
	return OwnerPrefix + "table/" + strconv.Itoa(int(table))
}

// Params describe an Engine.
type Params struct {
	// hash is for tests that want collisions.
	hash func(string) uint32
}

// LocalPod is an interface of a Pod of the node.
type LocalPod struct {
	// Port is its OpenFlow port, which no other interface has.
	Port uint32
	Pod  policy.PodKey
	// UID is that of the Pod. A record of the state with another UID is about
	// another Pod of that name; empty fits any.
	UID string
	// HoldUnknown denies everything but the node's own traffic as long as the
	// state has no record of the Pod. Without it such a Pod is not judged.
	HoldUnknown bool
}

// Change is what changed since the last one.
type Change struct {
	// Update may be nil.
	Update *policy.Update
	// Attached are interfaces that are new or that changed.
	Attached []LocalPod
	// Detached are the OpenFlow ports of interfaces that are gone. A port that
	// is attached in the same Change has another interface.
	Detached []uint32
}

// Patch leads from the flows before a Change to those after it. The changes are
// for openflow.Target.Patch, all in one call.
type Patch struct {
	// Changes are sorted by owner, one an owner.
	Changes []flow.Change
}

// Owners are those of which a flow changes.
func (p Patch) Owners() []string {
	var out []string
	for _, c := range p.Changes {
		out = append(out, c.Owner)
	}
	return out
}

// Engine derives flows.
type Engine struct {
	params Params
	state  *policy.State

	groups  groupIndex
	blocks  blockIndex
	rules   ruleIndex
	clauses clauseIndex
	ports   portIndex

	patch map[string]*flow.Change
}

// New returns an Engine of a node without policies and Pods.
func New(params Params) *Engine {
	if params.hash == nil {
		params.hash = hash32
	}
	return &Engine{
		params:  params,
		state:   policy.NewState(),
		groups:  newGroupIndex(params.hash),
		blocks:  newBlockIndex(params.hash),
		rules:   newRuleIndex(params.hash),
		clauses: newClauseIndex(),
		ports:   newPortIndex(),
	}
}

// State is what the updates so far led to. It changes with the next one; the
// caller does not change it.
func (e *Engine) State() *policy.State { return e.state }

// Apply changes the state and the interfaces.
func (e *Engine) Apply(c Change) Patch {
	e.patch = map[string]*flow.Change{}
	u := c.Update
	if u == nil {
		u = &policy.Update{}
	}
	e.applyGroups(u)
	e.applyPolicies(u)
	e.applyPods(u, c)
	e.settleShards()
	e.flushRules()
	e.flushPorts()
	e.flushClauses()
	return e.takePatch()
}

// set and remove record one flow of the patch.
func (e *Engine) set(owner string, f flow.Flow) {
	c := e.changeOf(owner)
	c.Set = append(c.Set, f)
}

func (e *Engine) remove(owner string, f flow.Flow) {
	c := e.changeOf(owner)
	c.Remove = append(c.Remove, f.Key())
}

func (e *Engine) changeOf(owner string) *flow.Change {
	c, ok := e.patch[owner]
	if !ok {
		c = &flow.Change{Owner: owner}
		e.patch[owner] = c
	}
	return c
}

func (e *Engine) takePatch() Patch {
	var p Patch
	for _, owner := range slices.Sorted(maps.Keys(e.patch)) {
		c := e.patch[owner]
		if len(c.Set) > 0 && len(c.Remove) > 0 {
			c.Remove = without(c.Remove, c.Set)
		}
		p.Changes = append(p.Changes, *c)
	}
	e.patch = nil
	return p
}

// without returns the keys that none of the flows has: what passes from one
// thing to another is only set.
func without(keys []flow.Key, flows []flow.Flow) []flow.Key {
	set := make(map[flow.Key]struct{}, len(flows))
	for _, f := range flows {
		set[f.Key()] = struct{}{}
	}
	return slices.DeleteFunc(keys, func(k flow.Key) bool {
		_, stays := set[k]
		return stays
	})
}

// compareIDs orders names by their bytes.
func compareIDs(a, b policy.ID) int { return slices.Compare(a[:], b[:]) }

// sortedIDs returns the names sorted and without doubles.
func sortedIDs(ids []policy.ID) []policy.ID {
	out := slices.Clone(ids)
	slices.SortFunc(out, compareIDs)
	return slices.Compact(out)
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// Denied says what becomes of denied packets, besides that they are dropped and
// counted.
type Denied struct {
	// Log sends denied packets to the controller.
	Log bool
	// Meter limits what is sent, 0 for no limit.
	Meter uint32
}

// deniedLen is how much of a denied packet is sent: enough for the headers of
// IPv6 and TCP with their options.
const deniedLen = 256

// Flows are those of table Denied, whose owner is OwnerDenied; the Engine has no
// part in them. Packets of established TCP connections are always sent, so that
// both ends can be told.
func (d Denied) Flows() []flow.Flow {
	report := []flow.Action{flow.Controller{MaxLen: deniedLen, Meter: d.Meter}}
	var out []flow.Flow
	for _, ethType := range []uint16{flow.EthTypeIPv4, flow.EthTypeIPv6} {
		out = append(out, flow.Flow{
			Table: pipeline.TableDenied, Priority: 200,
			Match: flow.Match{
				flow.CTState(flow.CTEstablished|flow.CTTracked, 0), flow.EthType(ethType), flow.IPProto(flow.ProtoTCP),
			},
			Actions: report,
		})
	}
	if d.Log {
		out = append(out, flow.Flow{Table: pipeline.TableDenied, Priority: 100, Actions: report})
	}
	return out
}
