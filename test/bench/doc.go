// SPDX-License-Identifier: Apache-2.0

// Package bench measures the product, most of it on a real lab, beside what it can be
// compared with in the same run: `make bench-datapath` the data path beside the
// limit of the same Open vSwitch and beside a Linux bridge, `make bench-cni` the
// attaching of Pods beside the plugins bridge and host-local, `make
// bench-policy-latency` how soon a policy is in force, `make bench-services` what
// Services cost beside connections to Pods and beside kube-proxy; and, without a lab,
// `make bench-policy` the computation of policies, `make bench-flows` how they get
// into Open vSwitch, and `make bench-bgp` how routes get from BGP into the kernel. The
// results are in out/bench, and in docs/benchmarks.md after `make docs-tables`.
//
// Everything is tests with the build tag bench; they take root. Measurements of
// what is compared alternate, several rounds of short ones, and the median
// counts: machines are shared, and a load of others then meets all alike.
package bench
