// SPDX-License-Identifier: Apache-2.0

// Package bench measures a path between two probes: round trips of small
// messages over one TCP connection (TCP_RR), and throughput over TCP and UDP.
// `probe serve` answers with [ServeTCP] and [ServeUDP] on the same port number;
// `probe rr` and `probe throughput` run [RoundTrips] and [Throughput]; the
// benchmarks read the reports.
//
// A client opens a TCP connection and sends one line of JSON, a request. For
// round trips the server then echoes messages; for TCP throughput one side sends
// until the time is over and the receiver counts; for UDP the datagrams go
// beside the connection, named by the number in the request, and the server
// answers with what it counted.
//
// What measures connections themselves needs no request: `probe serve` answers
// each with the port that it came to ([AnswerPort]). `probe connections` makes
// them over and over ([Connect]), `probe follow` begins them at a steady rate until
// another port has answered ([Follow], [FollowReport.Follows]), and `probe sweep` waits until each of many addresses says something
// ([Sweep]).
package bench
