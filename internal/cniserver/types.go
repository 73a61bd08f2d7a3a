// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/ipam"
)

// PodInterface is one interface of a Pod as the switch knows it. All of it fits
// into the external IDs of its port, from where PodInterfaces reads it back.
type PodInterface struct {
	ContainerID  string
	IfName       string
	PodNamespace string
	PodName      string
	PodUID       string // empty when the runtime does not tell
	// NetNS is the path of the Pod's network namespace.
	NetNS string
	// HostInterface is the name of the host's end of the veth pair and of the
	// port. It identifies the attachment: a Pod that was created anew under
	// the same name may be attached before the old one is detached.
	HostInterface string
	// MAC and Addresses are those of the Pod's end; at most one address a family.
	MAC       net.HardwareAddr
	Addresses []netip.Addr
}

// Switch connects Pods. Its methods may be called from several goroutines at
// once, but not for the same HostInterface.
type Switch interface {
	// AttachPod makes port and flows, those of the Pod's policies included, and
	// returns when the switch has confirmed them. It is idempotent. After an error the caller detaches.
	AttachPod(ctx context.Context, pod PodInterface) error
	// DetachPod removes flows and port. It is no error when there is nothing.
	DetachPod(ctx context.Context, hostInterface string) error
	// Settle returns when the switch has let go of what was detached before.
	Settle(ctx context.Context) error
	// CheckPod verifies that port and flows are there.
	CheckPod(ctx context.Context, pod PodInterface) error
	// PodInterfaces returns what is attached according to the switch.
	PodInterfaces(ctx context.Context) ([]PodInterface, error)
}

// Policies knows when a Pod can start under its policies.
type Policies interface {
	// Await returns when the policies that select the Pod are known, so that
	// AttachPod can put them into the switch, or an error that says why they
	// are not. It bounds the wait itself. UID is empty when the runtime does
	// not tell.
	Await(ctx context.Context, namespace, name, uid string) error
}

// Links makes veth pairs. podlink.Links implements it.
type Links interface {
	Create(ctx context.Context, link podlink.Link) error
	Delete(ctx context.Context, hostInterface string) error
	Check(ctx context.Context, link podlink.Link) error
	Repair(ctx context.Context, link podlink.Link) ([]string, error)
	List(ctx context.Context) ([]string, error)
	NamespaceExists(path string) (bool, error)
}

// Addresses allocates addresses. *ipam.Allocator implements it.
type Addresses interface {
	Allocate(ctx context.Context, owner ipam.Owner, cidrs []netip.Prefix) ([]ipam.Assignment, error)
	Reserve(ctx context.Context, owner ipam.Owner, addrs []netip.Addr) error
	Release(ctx context.Context, owner ipam.Owner) error
	List(ctx context.Context) ([]ipam.Allocation, error)
}

// Settings are what the node's configuration says about Pod interfaces.
type Settings struct {
	// PodCIDRs are the node's, at most one a family; results list addresses
	// in this order, so the cluster's first family comes first.
	PodCIDRs []netip.Prefix
	// MTU of Pod interfaces in bytes; SendMTU is what Pods may send, 0: as much.
	// HostMTU is that of the hosts' ends of their links.
	MTU, SendMTU, HostMTU int
	Datapath              podlink.Datapath
	// GatewayMAC is the address of the node's gateway port.
	GatewayMAC net.HardwareAddr
}

// Params are the parameters of New. Timeout, Concurrency and Registerer may be
// left zero.
type Params struct {
	// SocketPath is where Run listens.
	SocketPath string
	// StateDir holds the records; it is made when it does not exist.
	StateDir string
	// Settings returns the current settings. An error means that Pods cannot
	// be added now and says why in words; the settings then hold what is
	// known nevertheless, which is enough for Reconcile.
	Settings  func() (Settings, error)
	Switch    Switch
	Policies  Policies
	Links     Links
	Addresses Addresses
	// Timeout bounds one request, without the wait for policies; zero is 30 s.
	Timeout time.Duration
	// Concurrency bounds the requests that are worked on at once; zero is 32.
	Concurrency int
	// Registerer takes the metrics; nil keeps none.
	Registerer prometheus.Registerer
}
