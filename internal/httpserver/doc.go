// SPDX-License-Identifier: Apache-2.0

// Package httpserver serves what the kubelet and Prometheus ask a program of
// Waymark: /healthz, /readyz and /metrics. It has no state beyond a call of
// Serve, which the program's Run calls on a goroutine of its own.
package httpserver
