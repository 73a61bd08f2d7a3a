// SPDX-License-Identifier: Apache-2.0

package cniapi

import "encoding/json"

const (
	// DefaultSocket is where the agent listens.
	DefaultSocket = "/var/run/waymark/cni.sock"
	// Path is the URL path of every request. Its version changes when an
	// older agent could misread a newer plugin, or the reverse.
	Path = "/cni/v1"
	// NetworkName is the name of the network in the installed configuration.
	NetworkName = "waymark"
	// PluginType is the file name of the plugin.
	PluginType = "waymark-cni"
)

// Error codes of our own. The specification leaves 100 and above to plugins.
const (
	// CodeBroken is CHECK's answer when something is not as ADD left it.
	CodeBroken uint = 100
	// CodeConflict says that the container or the interface name is taken by
	// an attachment that is not the one asked for.
	CodeConflict uint = 101
)

// Command is a CNI operation.
type Command string

// The operations of CNI 1.1.0 that reach the agent; VERSION is answered by the
// plugin alone.
const (
	Add    Command = "ADD"
	Del    Command = "DEL"
	Check  Command = "CHECK"
	GC     Command = "GC"
	Status Command = "STATUS"
)

// Request is one call of the plugin: its CNI_* environment and its standard input.
type Request struct {
	Command     Command         `json:"command"`
	ContainerID string          `json:"containerID,omitempty"`
	NetNS       string          `json:"netns,omitempty"`
	IfName      string          `json:"ifname,omitempty"`
	Args        string          `json:"args,omitempty"`
	Config      json.RawMessage `json:"config"`
}

// SupportedVersions are the versions of the CNI specification that plugin and
// agent speak, oldest first.
func SupportedVersions() []string {
	return []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}
}
