// SPDX-License-Identifier: Apache-2.0

// Package service turns Services and their endpoints into flows and groups of
// the pipeline, and into what the node itself has to do: routes into the switch,
// NodePorts, health checks, addresses to announce. It decides who serves whom, as
// the Service API says, which of two Services has an address that both want, and
// which connections must not go on.
//
// A Compiler is told what changes and says what the switch should hold, by
// owner: one owner a Service, so that the refusal of one is nobody else's
// concern. It has no side effects, is used by one goroutine (the Service loop
// of the agent), and gives the same flows and groups for the same Services
// whatever came before: after a restart there is nothing to send.
//
// Where a Service is reached (a frontend) and who may serve there (a set of
// endpoints) are apart: an address more is a flow, not all endpoints again. A new
// connection meets a select group of the set, whose buckets translate it to an
// endpoint and record that (see the function Endpoint of package pipeline).
// Everything that follows is the connection tracker's: no change of a Service
// disturbs a connection whose endpoint stays.
//
// Package naive says the same once more, slowly, and package random makes up
// Services; tests hold the two against each other, in the fake switch and in Open
// vSwitch itself.
package service
