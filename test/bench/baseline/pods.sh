# SPDX-License-Identifier: Apache-2.0
# Makes two Pods on a node: namespaces a and b, whose links end at pod-a and pod-b.
pod() {
    ip netns add "$1"
    ip link add "pod-$1" type veth peer name eth0 netns "$1"
    ip link set "pod-$1" up
    ip -n "$1" link set lo up
    ip -n "$1" address add "$2" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" route add default via "$VIA"
}
pod a "$POD_A"
pod b "$POD_B"
sysctl -qw net.ipv4.ip_forward=1
