// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/image"
	"github.com/waymark-net/waymark/test/lab/topology"
)

// Description says what lab to start.
type Description struct {
	// Name tells labs on one machine apart.
	Name string `json:"name"`
	// Network is the topology with families, addresses and routers.
	Network topology.Spec `json:"network"`

	// Bare leaves out Kubernetes: a lab of hosts, links and routers only.
	Bare bool `json:"bare,omitempty"`

	// KubeProxy runs kube-proxy on every node, in nftables mode. Without it
	// nothing but the product implements Services.
	KubeProxy bool `json:"kubeProxy,omitempty"`

	// Mode is the traffic mode of the product: its manifest
	// manifests/waymark-MODE.yaml is installed. Empty: no product.
	Mode string `json:"mode,omitempty"`
	// Manifest replaces the manifest of the mode, if not empty.
	Manifest string `json:"manifest,omitempty"`
	// Settings are set in the configuration document of the manifest, by dotted
	// path, with values in YAML: {"datapath": "netdev", "tunnel.type": "vxlan"}.
	Settings map[string]string `json:"settings,omitempty"`
	// NoPeers leaves out the BGPPeer objects of the ToRs in modes that route.
	NoPeers bool `json:"noPeers,omitempty"`

	// Tags of the product's image that the nodes have; "latest" when empty.
	Tags []string `json:"tags,omitempty"`
	// Images are further image archives that the nodes have.
	Images []string `json:"images,omitempty"`
	// SandboxImage is what containerd runs for a Pod's sandbox.
	SandboxImage string `json:"sandboxImage"`

	// Progress is told each step; nothing when nil.
	Progress io.Writer `json:"-"`
}

// Default is the default lab: three nodes in two racks, dual-stack, userspace
// datapath, which every kernel can run, and without the product.
func Default(name string) Description {
	return Description{
		Name:         name,
		Network:      topology.DefaultSpec(),
		Settings:     map[string]string{"datapath": "netdev"},
		SandboxImage: image.Probe,
	}
}

// Modes that have a manifest.
var modes = []string{"encap", "noEncap", "hybrid", "auto"}

// Validate reports everything that is wrong with the description.
func (d Description) Validate() error {
	var errs []error
	// Shorter than a host's name: the name is part of socket paths.
	if !host.ValidName(d.Name) || len(d.Name) > 24 {
		errs = append(errs, fmt.Errorf("name %q: want letters, digits and dashes, at most 24", d.Name))
	}
	known := d.Mode == ""
	for _, mode := range modes {
		known = known || mode == d.Mode
	}
	if !known {
		errs = append(errs, fmt.Errorf("mode %q: want one of %s", d.Mode, strings.Join(modes, ", ")))
	}
	if d.Bare && d.hasProduct() {
		errs = append(errs, errors.New("a lab without Kubernetes cannot have the product"))
	}
	if d.SandboxImage == "" {
		errs = append(errs, errors.New("no sandbox image"))
	}
	return errors.Join(append(errs, d.Network.Validate())...)
}

// hasProduct tells whether a manifest is installed.
func (d Description) hasProduct() bool { return d.Mode != "" || d.Manifest != "" }

// manifest is the file to install.
func (d Description) manifest(source string) string {
	if d.Manifest != "" {
		return d.Manifest
	}
	return filepath.Join(source, "manifests", "waymark-"+strings.ToLower(d.Mode)+".yaml")
}

// routes tells whether nodes peer with the ToRs.
func (d Description) routes() bool { return !d.NoPeers && d.Mode != "encap" }
