// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// upFlags are the flags of "up" that do not land in the description directly.
type upFlags struct {
	families string
	sessions string
	datapath string
	settings map[string]string
	linkMTU  map[string]int
	podV4    string
	podV6    string
}

func newUp(name *string) *cobra.Command {
	d := cluster.Default("")
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a lab, over what is left of an earlier one",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.Name, d.Progress = *name, cmd.OutOrStdout()
			if err := f.fill(&d); err != nil {
				return err
			}
			if _, err := cluster.Up(cmd.Context(), d); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "\nLab %s is up. Next: lab status, lab kubectl get nodes, lab exec n1 ip route, lab vtysh torA 'show bgp summary', lab down (each with --name=%s)\n", d.Name, d.Name)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&d.Network.Nodes, "nodes", d.Network.Nodes, "number of nodes")
	flags.IntVar(&d.Network.Racks, "racks", d.Network.Racks, "number of racks")
	flags.StringVar(&f.families, "families", string(d.Network.Families), "ipv4, ipv6 or dual")
	flags.BoolVar(&d.Network.DualHomed, "dual-homed", false, "two ToRs a rack")
	flags.IntVar(&d.Network.MTU, "mtu", d.Network.MTU, "MTU of all links")
	flags.StringToIntVar(&f.linkMTU, "link-mtu", nil, "MTU of single links, such as torA-spine=1400")
	flags.StringVar(&f.podV4, "pod-cidr-ipv4", d.Network.Networks.PodIPv4.String(), "Pod network")
	flags.StringVar(&f.podV6, "pod-cidr-ipv6", d.Network.Networks.PodIPv6.String(), "Pod network")
	routers := &d.Network.Routers
	flags.Uint32Var(&routers.NodeASN, "node-asn", routers.NodeASN, "ASN of the nodes")
	flags.BoolVar(&routers.IBGP, "ibgp", false, "give the ToRs the ASN of the nodes")
	flags.StringVar(&f.sessions, "sessions", string(routers.Session), "between node and ToR: perFamily, or one over ipv4 or ipv6 for both families")
	flags.StringVar(&routers.Password, "bgp-password", "", "TCP MD5 password between node and ToR")
	flags.BoolVar(&routers.GTSM, "gtsm", false, "TTL security between node and ToR")
	flags.BoolVar(&routers.BFD, "bfd", routers.BFD, "BFD between node and ToR")
	flags.BoolVar(&routers.DefaultRoute, "default-route", false, "announce a default route to the nodes")
	flags.DurationVar(&routers.Keepalive, "keepalive", routers.Keepalive, "keepalive time of BGP sessions")
	flags.DurationVar(&routers.Hold, "hold", routers.Hold, "hold time of BGP sessions")
	flags.StringVar(&d.Mode, "mode", "", "install the product: encap, noEncap, hybrid or auto")
	flags.StringVar(&d.Manifest, "manifest", "", "install this manifest instead of the mode's")
	flags.StringVar(&f.datapath, "datapath", d.Settings["datapath"], "datapath in the configuration document: netdev or system")
	flags.StringToStringVar(&f.settings, "set", nil, "field=value in the configuration document, such as tunnel.type=vxlan")
	flags.BoolVar(&d.NoPeers, "no-peers", false, "make no BGPPeer objects")
	flags.BoolVar(&d.KubeProxy, "kube-proxy", false, "run kube-proxy on the nodes")
	flags.StringArrayVar(&d.Images, "image", nil, "archive of an image that the nodes have (repeatable)")
	flags.StringVar(&d.SandboxImage, "sandbox-image", d.SandboxImage, "image of Pod sandboxes")
	return cmd
}

func (f upFlags) fill(d *cluster.Description) error {
	d.Network.Families = topology.Families(f.families)
	d.Network.Routers.Session = topology.Sessions(f.sessions)
	d.Network.LinkMTU = f.linkMTU
	d.Settings = merge(map[string]string{"datapath": f.datapath}, f.settings)
	for _, p := range []struct {
		text string
		into *netip.Prefix
	}{{f.podV4, &d.Network.Networks.PodIPv4}, {f.podV6, &d.Network.Networks.PodIPv6}} {
		prefix, err := netip.ParsePrefix(p.text)
		if err != nil {
			return err
		}
		*p.into = prefix
	}
	if d.Manifest != "" {
		path, err := filepath.Abs(d.Manifest)
		if err != nil {
			return err
		}
		d.Manifest = path
	}
	for i, archive := range d.Images {
		path, err := filepath.Abs(archive)
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("image: %w", err)
		}
		d.Images[i] = path
	}
	return nil
}

// merge returns base with more over it.
func merge(base, more map[string]string) map[string]string {
	merged := maps.Clone(base)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, more)
	return merged
}
