// SPDX-License-Identifier: Apache-2.0

// Package vsdb is the adapter to the Open vSwitch database (RFC 7047,
// ovs-vswitchd.conf.db(5)): bridges, the gateway, tunnel and uplink ports, and
// the ports of Pods. It is the only package that sees libovsdb.
//
// A Client keeps one connection to the database, with a replica of the rows
// that matter here, for as long as Run runs; it reconnects by itself and calls
// Params.Notify whenever something it cares about changed in the database,
// whoever changed it, also when the connection came or went. All other methods
// may be called from any goroutine; they return ErrNotConnected while there is
// no connection.
//
// The agent's reconciliation loop calls Apply with the whole desired Switch;
// it transacts differences only. Objects that Waymark made carry the external
// ID OwnerKey; what it did not make and was not asked for is left alone. The
// agent's CNI server calls AddPort and DelPort; the external IDs of Pod ports
// are the agent's durable store of Pod interfaces, read back with Ports.
//
// Internal ports are network devices whose addresses the kernel holds. They
// outlive ovs-vswitchd, but not their bridge or port: a changed
// PortStatus.Ifindex says that a device was made anew and has lost its
// addresses.
package vsdb
