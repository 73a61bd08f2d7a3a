# SPDX-License-Identifier: Apache-2.0
# Puts the Pods on a Linux bridge that has the gateway's address.
ip link add pods type bridge
ip address add "$GATEWAY" dev pods
ip link set pods up
ip link set pod-a master pods
ip link set pod-b master pods
