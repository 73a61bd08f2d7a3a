// SPDX-License-Identifier: Apache-2.0

// Package testnet gives integration tests network namespaces that cannot leak.
//
// Run starts the calling test again as a process of its own, in fresh network,
// mount and PID namespaces, with private /proc, /sys and /run. Everything a
// test makes there (links, rules, named namespaces, daemons that it started)
// belongs to those namespaces alone, so the kernel removes all of it when the
// process ends, in whatever way it ends: also when the test run is killed.
// Nothing has a name outside, so tests run in parallel without agreement.
//
//	func TestSomething(t *testing.T) {
//		testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
//			peer := testnet.New(t, "peer")
//			testnet.Veth(t,
//				testnet.End{NS: node, Name: "eth0", Addrs: []string{"192.0.2.1/24", "2001:db8::1/64"}},
//				testnet.End{NS: peer, Name: "eth0", Addrs: []string{"192.0.2.2/24", "2001:db8::2/64"}})
//			peer.Exec(t, "ping -c1 192.0.2.1")
//		})
//	}
//
// The code under test runs in the first namespace on ordinary goroutines: it
// needs to know nothing of namespaces. Code that must run in another one goes
// through Namespace.Do, programs through Namespace.Exec and Namespace.Command.
//
// The test must be root; without the privilege it fails, it is not skipped.
package testnet
