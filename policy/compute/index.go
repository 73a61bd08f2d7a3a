// SPDX-License-Identifier: Apache-2.0

package compute

import (
	"net/netip"

	"github.com/waymark-net/waymark/policy"
)

// Index holds what is known of the cluster, and what follows from it. It
// belongs to one goroutine.
type Index struct {
	pods       map[policy.PodKey]*pod
	identities map[string]*identity // by what policy.AppendIdentity writes
	spaces     map[string]*namespace
	// spaceTable and scopes are the namespaces by label and the selectors of
	// namespaces that some selection uses.
	spaceTable labelTable[*namespace]
	scopes     selectorTable[*scope]
	policies   map[policy.Key]*policyRecord
	nodes      []*node // by nodeID; nil is free
	nodeIDs    map[string]nodeID
	freeNodes  []nodeID
	idleNodes  []nodeID          // see sweepNodes
	nodeGroups map[string]*group // by selector

	// owners has one Pod for each address, shared all of those that several
	// Pods have.
	owners map[netip.Addr]*pod
	shared map[netip.Addr][]*pod

	dirty   dirt
	last    *Changes
	sets    map[*group]policy.Addresses // in Views since the last Flush
	scratch []byte                      // to build an identity's text in
}

// dirt is what Flush has to look at.
type dirt struct {
	pods       []*pod
	identities []*identity
	subjects   []*subject
	groups     []*group
	policies   []*policyRecord
	idle       []*selection // somebody let go of it
	idleNodes  []nodeID
	idleSpaces []*namespace
}

// Params are what an Index makes room for: about how many objects there will
// be. More or less is fine.
type Params struct{ Pods, Namespaces, Policies int }

// New returns an Index that knows nothing.
func New(params Params) *Index {
	return &Index{
		pods:       make(map[policy.PodKey]*pod, params.Pods),
		identities: map[string]*identity{},
		spaces:     make(map[string]*namespace, params.Namespaces),
		policies:   make(map[policy.Key]*policyRecord, params.Policies),
		nodes:      []*node{nil},
		nodeIDs:    map[string]nodeID{},
		nodeGroups: map[string]*group{},
		owners:     make(map[netip.Addr]*pod, params.Pods),
		shared:     map[netip.Addr][]*pod{},
		dirty: dirt{
			pods:     make([]*pod, 0, params.Pods),
			policies: make([]*policyRecord, 0, params.Policies),
		},
	}
}

// pod is a Pod that is judged.
type pod struct {
	key       policy.PodKey
	uid       string
	addresses []netip.Addr
	identity  *identity // nil when the Pod went
	node      nodeID
	// sent is where it was at the last Flush, before at the one before that; the
	// latter is for the Changes.
	sent, before nodeID
	dirty        bool
	at           int32 // in the list of the node
	// Neighbours in the list of the identity.
	next, prev *pod
}

// identity stands for Pods with the same namespace, labels and named ports.
type identity struct {
	id     policy.ID
	text   string
	space  *namespace
	labels map[string]string
	ports  []policy.NamedPort
	in     []membership
	pods   *pod
	nodes  span // counts Pods
	at     int  // in space.identities
	dirty  bool
	// stale says that out does not name the right subjects, changed that out is
	// another one since the last Flush.
	stale, changed bool
	out            *policy.Identity // as of the last Flush; nil once it is dropped
}

// membership is one end of the tie between an identity and a selection; at is
// the place of the other end in its list.
type membership struct {
	selection *selection
	at        int32
}

// member is the other end.
type member struct {
	identity *identity
	at       int32
}

func (i *identity) labelMap() map[string]string { return i.labels }
func (i *identity) place() *int                 { return &i.at }

// namespace is one that is known, or that a Pod or a policy is in.
type namespace struct {
	name   string
	labels map[string]string // with the one of its name
	known  bool
	idle   bool
	// own selects this namespace alone, scopes are the others that it is in.
	own        scope
	scopes     []*scope
	identities labelTable[*identity]
	at         int // in Index.spaceTable
}

func (n *namespace) labelMap() map[string]string { return n.labels }
func (n *namespace) place() *int                 { return &n.at }

// scope is a set of namespaces: one, or those that a selector selects.
type scope struct {
	one        *namespace
	labels     policy.Selector
	spaces     map[*namespace]struct{} // where one is nil
	selections selectorTable[*selection]
}

func (s *scope) selector() policy.Selector { return s.labels }

// selection is a set of identities that policies speak of: those in a scope
// that a selector selects, or those among them that have a port of a name.
type selection struct {
	id      policy.ID
	scope   *scope // nil for those with a port
	pods    policy.Selector
	members []member
	subject *subject // nil unless a policy has it as subject
	group   *group   // nil unless a policy has it as peer
	uses    []*portUse
	use     *portUse // that it belongs to, where scope is nil
	// idle says that it is in dirt.idle.
	idle bool
}

func (s *selection) selector() policy.Selector { return s.pods }

// subject is a selection as what policies are about.
type subject struct {
	refs     int
	nodes    span // counts identities
	policies []*policyRecord
	links    []link
	linkAt   map[*group]int // in links, when there are many
	dirty    bool
}

// link says that policies with the subject name the group.
type link struct {
	group *group
	refs  int
}

// group is a selection, or a set of nodes, as addresses.
type group struct {
	id        policy.ID
	refs      int
	nodes     span       // counts subjects
	selection *selection // nil for nodes
	hosts     *hosts     // nil for Pods
	digest    policy.Digest
	size      int
	// ops are what changed since the last Flush, if a node had the group then.
	ops   []op
	dirty bool
}

// hosts are the nodes that a selector selects.
type hosts struct {
	selector policy.Selector
	counts   map[netip.Addr]int // how many of them have the address
}

// op is an address that came to a group or went from it.
type op struct {
	address netip.Addr
	gone    bool
}

// portUse is the name of a port of a selection's Pods that policies use.
type portUse struct {
	selection *selection
	name      string
	protocol  policy.Protocol // 0 is any
	refs      int
	numbers   []*portNumber // by protocol and number
	policies  map[*policyRecord]struct{}
}

// portNumber are the Pods on which the name has one number.
type portNumber struct {
	protocol  policy.Protocol
	number    uint16
	selection *selection
}

// node is one that is known or has Pods.
type node struct {
	name   string
	id     nodeID
	pods   []*pod
	intent *policy.NodeIntent // nil when there is none
	let    bool               // it lost its object or its Pods since the last Flush
}

// policyRecord is a policy.
type policyRecord struct {
	key    policy.Key
	intent *policy.PolicyIntent // nil once what follows from it cannot change
	gone   bool
	dirty  bool
	// changed is set within Flush.
	changed bool
	bound   binding
	at      int // in bound.subject.policies
	out     *policy.Policy
	// was and sent are the subject and out at the last Flush.
	was  *subject
	sent *policy.Policy
}

// subject returns the one that the policy has now, nil for none.
func (p *policyRecord) subject() *subject {
	if p.bound.subject == nil {
		return nil
	}
	return p.bound.subject.subject
}

// binding is what a policy holds.
type binding struct {
	subject *selection
	groups  []*group // each once
	named   *named   // nil where no port has a name
}

// named is what a policy holds for the names of its ports.
type named struct {
	subjects []*selection // of rules that speak of fewer Pods than the policy
	uses     []*portUse
}
