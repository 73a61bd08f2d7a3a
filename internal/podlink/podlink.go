// SPDX-License-Identifier: Apache-2.0

package podlink

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNoNamespace says that nothing is at the path of the namespace.
	ErrNoNamespace = errors.New("network namespace does not exist")
	// ErrNotNamespace says that what is at the path is no network namespace,
	// or is the host's own.
	ErrNotNamespace = errors.New("not a Pod's network namespace")
	// ErrInterfaceExists says that the namespace has an interface of that
	// name that is not ours.
	ErrInterfaceExists = errors.New("interface exists")
	// ErrBroken wraps what Check found.
	ErrBroken = errors.New("not as configured")
)

// Datapath is the kind of the switch's datapath.
type Datapath string

// The kinds of datapath, as in the configuration document.
const (
	System Datapath = "system"
	Netdev Datapath = "netdev"
)

// Address is one address of a Pod and the gateway of its family.
type Address struct {
	Addr    netip.Addr
	Gateway netip.Addr
}

// Link is a veth pair as it should be.
type Link struct {
	// HostInterface is the name of the host's end, from HostInterface().
	HostInterface string
	// Alias is the alias of the host's end, for people who read `ip link`.
	Alias string
	// NetNS is the path of the Pod's network namespace, IfName the name of
	// the Pod's end in it.
	NetNS  string
	IfName string
	// MAC is the address of the Pod's end.
	MAC net.HardwareAddr
	// MTU of the Pod's end in bytes.
	MTU int
	// HostMTU is the MTU of the host's end in bytes, and at least MTU. What is larger
	// than MTU does not get to the Pod. It does not follow MTU: a switch in userspace
	// takes a change of a port's MTU for a change of all its tunnels, and knows none
	// of them for a few milliseconds.
	HostMTU int
	// SendMTU is the largest packet that the Pod sends, in bytes; 0: MTU. It is less
	// while others still send what only MTU lets in.
	SendMTU int
	// Addresses are at most one a family.
	Addresses []Address
	// GatewayMAC is the address of every gateway.
	GatewayMAC net.HardwareAddr
	// Datapath Netdev turns off checksum offload of the Pod's end: a switch
	// in userspace would see packets without checksums.
	Datapath Datapath
}

// HostInterface returns the name of the host's end for an interface of a
// container: "wm" and 12 hexadecimal digits of a hash.
func HostInterface(containerID, ifName string) string {
	h := sha256.Sum256([]byte(containerID + "/" + ifName))
	return "wm" + hex.EncodeToString(h[:6])
}

// MAC returns the address of the Pod's end: locally administered, and the same
// whenever it is made for this interface of this container.
func MAC(containerID, ifName string) net.HardwareAddr {
	h := sha256.Sum256([]byte(containerID + "/" + ifName))
	return append(net.HardwareAddr{0x02}, h[6:11]...)
}

// IsHostInterface tells whether a name is one that HostInterface gives.
func IsHostInterface(name string) bool { return hostInterfaceName.MatchString(name) }

var hostInterfaceName = regexp.MustCompile(`^wm[0-9a-f]{12}$`)

// Links makes links. The hosts' ends are in the namespace that the process runs
// in. The zero value is ready; its methods may be called from any goroutine.
type Links struct{}

// Create makes the pair and configures it. What an earlier Create of the same
// HostInterface left is replaced. On error nothing stays behind. Errors:
// ErrNoNamespace, ErrNotNamespace, ErrInterfaceExists.
func (Links) Create(ctx context.Context, link Link) error {
	if err := createLink(ctx, link); err != nil {
		return fmt.Errorf("creating link %s to %s in %s: %w", link.HostInterface, link.IfName, link.NetNS, err)
	}
	return nil
}

// Delete removes the pair by its host's end. It is no error when there is none.
func (Links) Delete(ctx context.Context, hostInterface string) error {
	if err := deleteLink(ctx, hostInterface); err != nil {
		return fmt.Errorf("deleting link %s: %w", hostInterface, err)
	}
	return nil
}

// Check compares the pair with link. The error wraps ErrBroken and names every
// difference, or ErrNoNamespace or ErrNotNamespace.
func (Links) Check(ctx context.Context, link Link) error {
	if err := checkLink(ctx, link); err != nil {
		return fmt.Errorf("link %s to %s in %s: %w", link.HostInterface, link.IfName, link.NetNS, err)
	}
	return nil
}

// Repair brings the ends of the pair to link.HostMTU and link.MTU and the Pod's routes to
// link.SendMTU, and the host's end to its sysctls and up. It returns what it changed,
// in words; connections live on. What a Pod has changed otherwise of its own end is
// its own affair.
func (Links) Repair(ctx context.Context, link Link) ([]string, error) {
	changed, err := repairLink(ctx, link)
	if err != nil {
		return changed, fmt.Errorf("repairing link %s: %w", link.HostInterface, err)
	}
	return changed, nil
}

// List returns the names of all hosts' ends, sorted.
func (Links) List(ctx context.Context) ([]string, error) {
	names, err := listLinks(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	return names, nil
}

// NamespaceExists reports whether a network namespace is at the path. An error
// means that this is not known.
func (Links) NamespaceExists(path string) (bool, error) {
	f, err := openNamespace(path)
	switch {
	case errors.Is(err, ErrNoNamespace), errors.Is(err, ErrNotNamespace):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, f.Close()
}
