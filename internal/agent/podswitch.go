// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/waymark-net/waymark/internal/cniserver"
	"github.com/waymark-net/waymark/internal/enforce"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/policy"
)

// podPorts makes the ports of Pods. *vsdb.Client implements it.
type podPorts interface {
	AddPort(ctx context.Context, port vsdb.PodPort) (uint32, error)
	DelPort(ctx context.Context, name string) error
	Settle(ctx context.Context) error
	Ports(ctx context.Context) ([]vsdb.PortStatus, error)
}

// flowTable holds flows by owner. *openflow.Target implements it.
type flowTable interface {
	Update(owner string, flows []flow.Flow, groups []flow.Group) error
	Delete(owner string)
	Sync(ctx context.Context, owners ...string) error
}

// podPolicies puts the policies of Pods into the switch. *enforce.Enforcer
// implements it.
type podPolicies interface {
	// Attach returns the owners of the flows that it declared.
	Attach(i enforce.Interface) ([]string, error)
	Detach(hostInterface string) error
}

// podSwitch connects Pods: a port in OVSDB, flows in the switch. The CNI server
// calls it for one interface at a time, the agent's loop calls restore.
type podSwitch struct {
	ports    podPorts
	flows    flowTable
	policies podPolicies

	mu sync.Mutex
	// changes counts what attaching and detaching declared, so that restore
	// sees when the list of ports that it works with has become old.
	changes int
	// declared holds the OpenFlow port of each interface whose flows are declared.
	declared map[string]uint32
	// attaching counts the calls of AttachPod that are making the port of an
	// interface.
	attaching map[string]int
}

func newPodSwitch(ports podPorts, flows flowTable, policies podPolicies) *podSwitch {
	return &podSwitch{ports: ports, flows: flows, policies: policies, declared: map[string]uint32{}, attaching: map[string]int{}}
}

// expected tells whether a change of a Pod's port is the doing of AttachPod or
// DetachPod, or none at all. Others may be something to repair.
func (s *podSwitch) expected(c vsdb.Change) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ofport, declared := s.declared[c.Pod.Name]
	switch {
	case s.attaching[c.Pod.Name] > 0:
		return true // AttachPod looks itself
	case c.Gone:
		return !declared
	default:
		return declared && ofport == c.Pod.OFPort && c.Pod.Error == ""
	}
}

func (s *podSwitch) attach(hostInterface string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attaching[hostInterface] += n; s.attaching[hostInterface] == 0 {
		delete(s.attaching, hostInterface)
	}
}

// errBusy says that Pods were attached or detached at the same time.
var errBusy = errors.New("Pods are being attached or detached")

var _ cniserver.Switch = (*podSwitch)(nil)

// AttachPod implements cniserver.Switch.
func (s *podSwitch) AttachPod(ctx context.Context, pod cniserver.PodInterface) error {
	s.attach(pod.HostInterface, 1)
	defer s.attach(pod.HostInterface, -1)
	ofport, err := s.ports.AddPort(ctx, vsdb.PodPort{Name: pod.HostInterface, ExternalIDs: externalIDs(pod)})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.changes++
	owners, err := s.declare(pod, ofport)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.flows.Sync(ctx, owners...); err != nil {
		return fmt.Errorf("flows of Pod %s/%s: %w", pod.PodNamespace, pod.PodName, err)
	}
	return nil
}

// DetachPod implements cniserver.Switch.
func (s *podSwitch) DetachPod(ctx context.Context, hostInterface string) error {
	err := s.withdraw(hostInterface)
	err = errors.Join(err, s.ports.DelPort(ctx, hostInterface))
	// Once more: until now the port was there for restore to see.
	err = errors.Join(err, s.withdraw(hostInterface))
	return errors.Join(err, s.flows.Sync(ctx, pipeline.OwnerPod(hostInterface)))
}

// Settle implements cniserver.Switch.
func (s *podSwitch) Settle(ctx context.Context) error { return s.ports.Settle(ctx) }

func (s *podSwitch) withdraw(hostInterface string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
	return s.forget(hostInterface)
}

// declare and forget are called with mu held. Flows are sent in the order in
// which they were declared, or at once: policies come before the packets that
// they are about, and go after them. declare returns the owners of the flows.
func (s *podSwitch) declare(pod cniserver.PodInterface, ofport uint32) ([]string, error) {
	owners, err := s.policies.Attach(enforce.Interface{
		Name: pod.HostInterface, Port: ofport, UID: pod.PodUID,
		Pod: policy.PodKey{Namespace: pod.PodNamespace, Name: pod.PodName},
	})
	own := pipeline.OwnerPod(pod.HostInterface)
	if err == nil {
		flows := pipeline.Pod(pipeline.PodPort{Port: ofport, MAC: pod.MAC, Addrs: pod.Addresses})
		err = s.flows.Update(own, flows, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("flows of Pod %s/%s: %w", pod.PodNamespace, pod.PodName, err)
	}
	s.declared[pod.HostInterface] = ofport
	return append(owners, own), nil
}

func (s *podSwitch) forget(hostInterface string) error {
	s.flows.Delete(pipeline.OwnerPod(hostInterface))
	delete(s.declared, hostInterface)
	return s.policies.Detach(hostInterface)
}

// restore declares the flows of all Pod ports that the switch has, with the
// numbers that they have now, and withdraws those of ports that are gone. It
// is how flows come back after a restart of agent or switch. It returns errBusy
// if it has to be called again.
func (s *podSwitch) restore(ctx context.Context) error {
	s.mu.Lock()
	before := s.changes
	s.mu.Unlock()
	ports, err := s.ports.Ports(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes != before {
		return errBusy
	}
	now := map[string]uint32{}
	for _, p := range ports {
		if p.OFPort != 0 {
			now[p.Name] = p.OFPort
		}
	}
	var errs []error
	// All that go come first: a number may have passed from one port to another.
	for name, ofport := range s.declared {
		if now[name] != ofport {
			errs = append(errs, s.forget(name))
		}
	}
	for _, p := range ports {
		pod := podOfPort(p)
		if p.OFPort == 0 || pod.MAC == nil || s.declared[p.Name] == p.OFPort {
			continue
		}
		_, err := s.declare(pod, p.OFPort)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// CheckPod implements cniserver.Switch.
func (s *podSwitch) CheckPod(ctx context.Context, pod cniserver.PodInterface) error {
	ports, err := s.ports.Ports(ctx)
	if err != nil {
		return err
	}
	for _, p := range ports {
		if p.Name != pod.HostInterface {
			continue
		}
		if p.OFPort == 0 {
			return fmt.Errorf("port %s has no OpenFlow port: %s", p.Name, p.Error)
		}
		return s.flows.Sync(ctx, pipeline.OwnerPod(p.Name))
	}
	return fmt.Errorf("port %s is not on bridge %s", pod.HostInterface, vsdb.IntegrationBridge)
}

// PodInterfaces implements cniserver.Switch.
func (s *podSwitch) PodInterfaces(ctx context.Context) ([]cniserver.PodInterface, error) {
	ports, err := s.ports.Ports(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]cniserver.PodInterface, 0, len(ports))
	for _, p := range ports {
		out = append(out, podOfPort(p))
	}
	return out, nil
}

// The external IDs of a Pod's port.
const (
	idContainer = "container-id"
	idIfName    = "ifname"
	idNamespace = "pod-namespace"
	idPod       = "pod-name"
	idUID       = "pod-uid"
	idNetNS     = "netns"
	idMAC       = "mac"
	idIPs       = "ips"
)

func externalIDs(pod cniserver.PodInterface) map[string]string {
	var ips []string
	for _, a := range pod.Addresses {
		ips = append(ips, a.String())
	}
	return map[string]string{
		idContainer: pod.ContainerID,
		idIfName:    pod.IfName,
		idNamespace: pod.PodNamespace,
		idPod:       pod.PodName,
		idUID:       pod.PodUID,
		idNetNS:     pod.NetNS,
		idMAC:       pod.MAC.String(),
		idIPs:       strings.Join(ips, ","),
	}
}

// podOfPort reads back what externalIDs wrote. What cannot be read stays empty,
// so that the CNI server sees an interface that it cannot adopt.
func podOfPort(p vsdb.PortStatus) cniserver.PodInterface {
	ids := p.ExternalIDs
	pod := cniserver.PodInterface{
		ContainerID:   ids[idContainer],
		IfName:        ids[idIfName],
		PodNamespace:  ids[idNamespace],
		PodName:       ids[idPod],
		PodUID:        ids[idUID],
		NetNS:         ids[idNetNS],
		HostInterface: p.Name,
	}
	mac, err := net.ParseMAC(ids[idMAC])
	if err != nil {
		return cniserver.PodInterface{HostInterface: p.Name}
	}
	pod.MAC = mac
	for ip := range strings.SplitSeq(ids[idIPs], ",") {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return cniserver.PodInterface{HostInterface: p.Name}
		}
		pod.Addresses = append(pod.Addresses, a)
	}
	return pod
}
