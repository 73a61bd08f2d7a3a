# SPDX-License-Identifier: Apache-2.0
# Puts the Pods on br-int with a gateway port, and the network interface with its
# address on br-ext, both with nothing but one NORMAL flow.
for pod in a b; do
    ip netns exec $pod ethtool -K eth0 tx off >/dev/null
done
ovs-vsctl \
    -- add-br br-int -- set bridge br-int datapath_type=netdev fail_mode=secure other_config:disable-in-band=true \
    -- add-port br-int gw0 -- set interface gw0 type=internal \
    -- add-port br-int pod-a -- add-port br-int pod-b \
    -- add-br br-ext -- set bridge br-ext datapath_type=netdev fail_mode=secure other_config:disable-in-band=true \
    other_config:hwaddr=\""$(cat /sys/class/net/eth0/address)"\" \
    -- add-port br-ext eth0
ovs-ofctl add-flow br-int actions=NORMAL
ovs-ofctl add-flow br-ext actions=NORMAL
ip address add "$GATEWAY" dev gw0
ip link set gw0 up
ip address flush dev eth0
ip address add "$NODE" dev br-ext
ip link set br-ext up
ip route add default via "$ROUTER"
sysctl -qw net.ipv4.conf.gw0.rp_filter=2 net.ipv4.conf.br-ext.rp_filter=2 \
    net.ipv4.conf.eth0.arp_ignore=8 net.ipv4.conf.eth0.forwarding=0 net.ipv4.conf.eth0.rp_filter=1 \
    net.ipv6.conf.eth0.disable_ipv6=1
nft -f - <<'NFT'
table inet guard {
    chain prerouting {
        type filter hook prerouting priority raw
        iifname "eth0" drop
    }
}
NFT
