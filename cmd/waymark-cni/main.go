// SPDX-License-Identifier: Apache-2.0

// Command waymark-cni is the CNI plugin. A container runtime runs it for every
// Pod; it asks the agent on the node, which does the work.
package main

import (
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/waymark-net/waymark/internal/cniapi"
	"github.com/waymark-net/waymark/internal/cniclient"
)

func main() {
	client := cniclient.New(cniclient.Params{Stdout: os.Stdout})
	skel.PluginMainFuncs(client.Funcs(), version.PluginSupports(cniapi.SupportedVersions()...),
		"CNI plugin waymark-cni: asks the Waymark agent for the network of a Pod.")
}
