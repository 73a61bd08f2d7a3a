// SPDX-License-Identifier: Apache-2.0

// Package icmpecho sends ICMP and ICMPv6 echo requests and reads the replies,
// over an unprivileged ping socket where the system allows them and a raw one
// otherwise. It is used by the probe's check and ping. A Socket may be written
// by one goroutine and read by another.
package icmpecho
