// SPDX-License-Identifier: Apache-2.0

// Package cluster starts and removes labs: real Kubernetes clusters with racks
// and routers on one machine, as root, in namespaces.
//
// A test uses it like this (host.Main must come first in TestMain, because the
// hosts of a lab are the test program itself, executed again):
//
//	func TestMain(m *testing.M) {
//		host.Main()
//		os.Exit(m.Run())
//	}
//
//	d := cluster.Default("mytest")
//	d.Mode = "noEncap"
//	lab, err := cluster.Up(ctx, d)
//	defer lab.Down(ctx)
//	out, err := lab.Kubectl(ctx, "get", "nodes")
//	routes, err := lab.Exec(ctx, "n1", "ip", "route")
//	bgp, err := lab.Vtysh(ctx, "torA", "show bgp summary")
//
// Exec, Kubectl, Vtysh, Capture, RESTConfig, Status and Collect look at a lab;
// Fail breaks and repairs things in it; AddNode and RemoveNode change it;
// Apply installs manifests as the lab's network needs them.
//
// A lab outlives the process that started it. Everything that must be known to
// use it again is in its state folder, /run/waymark-lab/NAME (Open reads it);
// what takes space is in /var/lib/waymark-lab/NAME; what is reused is in the
// cache. Down needs neither: it also removes a lab whose start was killed, and
// Up on leftovers removes them first. A lock keeps Up, Down and changes of one
// lab apart; a Lab itself must not be changed from several goroutines.
package cluster
