// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/waymark-net/waymark/policy"
)

// Annotations of the mirror of a static Pod: its UID is not the one that the
// kubelet and the container runtime know.
const (
	mirrorAnnotation = "kubernetes.io/config.mirror"
	hashAnnotation   = "kubernetes.io/config.hash"
)

// PolicyPod returns what policies need of a Pod. The intent shares the labels
// of the object. Addresses that are none are left out.
func PolicyPod(object *corev1.Pod) policy.PodIntent {
	in := policy.PodIntent{
		Key:         policy.PodKey{Namespace: object.Namespace, Name: object.Name},
		UID:         string(object.UID),
		Node:        object.Spec.NodeName,
		Labels:      object.Labels,
		HostNetwork: object.Spec.HostNetwork,
		Finished:    object.Status.Phase == corev1.PodSucceeded || object.Status.Phase == corev1.PodFailed,
	}
	if _, mirror := object.Annotations[mirrorAnnotation]; mirror {
		in.UID = object.Annotations[hashAnnotation]
	}
	if !in.Judged() {
		return in
	}
	if n := len(object.Status.PodIPs); n > 0 {
		in.Addresses = make([]netip.Addr, 0, n)
		for i := range object.Status.PodIPs {
			in.Addresses = appendAddress(in.Addresses, object.Status.PodIPs[i].IP)
		}
	}
	if len(in.Addresses) == 0 {
		in.Addresses = appendAddress(nil, object.Status.PodIP)
	}
	for i := range object.Spec.Containers {
		in.Ports = appendNamedPorts(in.Ports, &object.Spec.Containers[i])
	}
	for i := range object.Spec.InitContainers {
		// One that is always restarted runs beside the containers (KEP-753).
		if c := &object.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			in.Ports = appendNamedPorts(in.Ports, c)
		}
	}
	return in
}

// appendNamedPorts appends the ports of a container that have a name. Of
// several with one name and protocol the first of the Pod counts, as for
// Services.
func appendNamedPorts(ports []policy.NamedPort, c *corev1.Container) []policy.NamedPort {
	for i := range c.Ports {
		p := &c.Ports[i]
		protocol, known := protocolOf(p.Protocol)
		if p.Name == "" || !known || p.ContainerPort < 1 || p.ContainerPort > 65535 {
			continue
		}
		taken := slices.ContainsFunc(ports, func(o policy.NamedPort) bool { return o.Name == p.Name && o.Protocol == protocol })
		if !taken {
			ports = append(ports, policy.NamedPort{Name: p.Name, Protocol: protocol, Number: uint16(p.ContainerPort)})
		}
	}
	return ports
}

// appendAddress appends an address, once, if it is one.
func appendAddress(list []netip.Addr, text string) []netip.Addr {
	if text == "" {
		return list
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return list
	}
	if a = a.Unmap().WithZone(""); slices.Contains(list, a) {
		return list
	}
	return append(list, a)
}

// PolicyNamespace returns what policies need of a Namespace. The intent shares
// the labels of the object.
func PolicyNamespace(object *corev1.Namespace) policy.NamespaceIntent {
	return policy.NamespaceIntent{Name: object.Name, Labels: object.Labels}
}

// PolicyNode returns what policies need of a Node: its addresses, and the first
// two addresses of each of its Pod CIDRs. The first is that of the node on the
// bridge of its Pods, the second that of what came to the node for a Service and
// goes on to an endpoint elsewhere. What goes from a node to a Pod of another can
// have any of them as its source. The intent shares the labels of the object.
func PolicyNode(object *corev1.Node) policy.NodeIntent {
	in := policy.NodeIntent{Name: object.Name, Labels: object.Labels}
	for _, a := range object.Status.Addresses {
		if a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP {
			in.Addresses = appendAddress(in.Addresses, a.Address)
		}
	}
	cidrs := object.Spec.PodCIDRs
	if len(cidrs) == 0 && object.Spec.PodCIDR != "" {
		cidrs = []string{object.Spec.PodCIDR}
	}
	for _, text := range cidrs {
		if cidr, err := netip.ParsePrefix(text); err == nil {
			first := cidr.Masked().Addr().Next()
			in.Addresses = appendAddress(in.Addresses, first.String())
			in.Addresses = appendAddress(in.Addresses, first.Next().String())
		}
	}
	return in
}

func protocolOf(p corev1.Protocol) (policy.Protocol, bool) {
	switch p {
	case corev1.ProtocolTCP, "":
		return policy.TCP, true
	case corev1.ProtocolUDP:
		return policy.UDP, true
	case corev1.ProtocolSCTP:
		return policy.SCTP, true
	}
	return 0, false
}
