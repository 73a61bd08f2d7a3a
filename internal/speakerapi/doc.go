// SPDX-License-Identifier: Apache-2.0

// Package speakerapi is what the agent and the routing speaker say to each
// other. The speaker is a process of its own (cmd/waymark-speaker), so that
// sessions with routers outlive the agent.
//
// Server runs the speaker and serves it on a Unix socket. It keeps what the last
// agent told it: sessions stay as they are while no agent is connected, and a new
// agent is told routes and sessions at once. Client stands in for the speaker in
// the agent, with the same methods and callbacks.
//
// # Protocol
//
// Both ends write JSON objects, one a line, of at most maxMessage bytes; message
// has them all. Each begins with a hello that says which versions of the protocol
// it speaks. The agent sends configurations, each of which is answered. The
// speaker tells routes and sessions whenever they change, always all of them; of
// several that an agent has not read yet it gets the last. Unknown fields are
// ignored, so that agent and speaker of different releases understand each other;
// what would be misread needs another version. Passwords of sessions cross the
// socket: only root may use it, and no message is ever logged.
//
// # Graceful restart
//
// A speaker that is new knows no routes. Until it has converged, and while there
// is none, the client passes on the routes that it knew last, as not converged, so
// that the node goes on forwarding (RFC 4724, section 4.1). It does so for the
// restart time at most: that long routers keep the node's routes.
//
// The other way round, a new agent may not have read all passwords yet. The peers
// that its first configurations leave out (routing.BGPConfig.Incomplete) keep
// their sessions in the server until one is complete, for the restart time at most.
//
// # Goroutines
//
// Client.Run owns the client's state and calls the callbacks. The server's state
// is under a lock; each connection has a goroutine that reads and carries out
// configurations one after the other, and both ends have one that writes, so that
// one end that does not read holds up nobody.
package speakerapi
