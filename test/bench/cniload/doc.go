// SPDX-License-Identifier: Apache-2.0

// Command cniload attaches network namespaces to the Pod network of the node it
// runs on, as a container runtime does: by libcni, with the configuration and
// the plugins given. It detaches them again and says how long each ADD and DEL
// took, as JSON on standard output.
//
//	cniload --config /etc/cni/net.d/05-waymark.conflist --count 50 --parallel 50
//	cniload --config ... --count 110 --hold    keep them until standard input ends
//
// Namespaces are made before and removed after, outside of the times. They are
// said to be those of the Pods cniload-0, cniload-1 and so on of the namespace
// default, which a plugin that knows the cluster expects to be bound to the node.
package main
