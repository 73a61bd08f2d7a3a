// SPDX-License-Identifier: Apache-2.0

// Command probe is what the lab runs in its Pods, and on nodes and routers to
// ask them: one static program, the only file of its image, which is also the
// sandbox image of the lab's containerd.
//
//	probe pause                      hold a Pod's namespaces, reap its orphans
//	probe serve                      all servers of packages serve, stream and bench
//	probe check [TARGETS]            try many targets once: JSON in, JSON out
//	probe ping [flags] ADDRESS...    steady echo requests, reports losses
//	probe stream [flags] ADDR:PORT   a TCP connection kept busy and checked
//	probe connect [flags] ADDR:PORT...   new connections at a steady rate
//	probe datagram [flags] ADDR:PORT...  datagrams from one port, says who answers
//	probe rr [flags] ADDR:PORT       round trips of small messages
//	probe throughput [flags] ADDR:PORT
//	probe connections [flags] ADDR:PORT  as many new connections as can be
//	probe follow [flags] ADDR:PORT   new connections until another port answers
//	probe sweep [flags] < ADDRESSES  waits until many have answered
//	probe sockets ADDR               established TCP connections with an address
//
// Reports are JSON on standard output; progress and errors go to standard error.
// Commands that run for a time end at SIGTERM, SIGINT, after --duration, or with
// --stdin at the end of standard input (which `kubectl exec -i` can bring about),
// and report what they have.
package main
