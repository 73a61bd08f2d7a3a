// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of the lab:
//
//	lab up [--mode noEncap] [--families dual] [--nodes 3] ...
//	lab status | kubectl ... | exec HOST ... | vtysh ROUTER ... | capture LINK ...
//	lab fail KIND ... | node add NAME --rack B | node remove NAME
//	lab apply MANIFEST | collect DIR | down
//
// It turns flags into a description and calls the package cluster.
package cli
