#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that the lab and the tests run: Open vSwitch, FRR,
# containerd, etcd and the builders of the image. Does nothing where all are there.
set -euo pipefail
packages=(
  openvswitch-switch frr containerd runc etcd-server
  buildah mmdebstrap fuse-overlayfs
  nftables iptables iproute2 iputils-ping conntrack ethtool tcpdump util-linux procps
  gcc libc6-dev make git ca-certificates
)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
export DEBIAN_FRONTEND=noninteractive
# A policy-rc.d that refuses keeps the packages' daemons from starting: the lab
# starts its own in namespaces.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -q
apt-get install -y -q --no-install-recommends "${missing[@]}"
