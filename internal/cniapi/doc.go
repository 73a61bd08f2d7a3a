// SPDX-License-Identifier: Apache-2.0

// Package cniapi is what the CNI plugin and the agent say to each other: one
// JSON request posted to Path over the agent's Unix socket. The answer is HTTP
// 200 with the CNI result (empty object for everything but ADD), or another
// status with a CNI error object.
//
// It is imported by internal/cniclient (the plugin, which has to stay small)
// and internal/cniserver (the agent), holds no state and starts nothing.
package cniapi
