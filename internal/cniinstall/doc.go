// SPDX-License-Identifier: Apache-2.0

// Package cniinstall puts Waymark's CNI plugins and network configuration onto
// the node. Files appear whole or not at all, and one that is right already is
// not touched, so that a runtime never runs half a plugin and does not reload
// its configuration for nothing.
//
// The agent's init container calls InstallBinaries. The agent itself calls
// WriteConfig, when it is ready for the first time: the configuration is what
// makes a runtime report the node's network as ready. Neither removes anything
// at the end, since Pods outlive the agent. No state, no goroutine.
package cniinstall
