// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"

	"github.com/waymark-net/waymark/routing"
)

// Traffic is how traffic travels between nodes: the part of a Config that is
// changed by a rollout, which leads all nodes from one to the other, and not by each
// node when it hears of it.
type Traffic struct {
	Mode              routing.Mode
	Tunnel            Tunnel
	MTU               int
	TrustDefaultRoute bool
	// BGP is BGP.Enabled.
	BGP bool
}

// Traffic returns that part of a Config.
func (c *Config) Traffic() Traffic {
	return Traffic{Mode: c.Mode, Tunnel: c.Tunnel, MTU: c.MTU, TrustDefaultRoute: c.TrustDefaultRoute, BGP: c.BGP.Enabled}
}

// With returns a copy of a Config with another Traffic.
func (c *Config) With(t Traffic) *Config {
	out := *c
	out.Mode, out.Tunnel, out.MTU, out.TrustDefaultRoute, out.BGP.Enabled = t.Mode, t.Tunnel, t.MTU, t.TrustDefaultRoute, t.BGP
	return &out
}

// UsesTunnel says whether any packet can need the tunnel.
func (t Traffic) UsesTunnel() bool { return t.Mode != routing.ModeNoEncap }

// String is the mode, and the tunnel where there is one, for people.
func (t Traffic) String() string {
	switch {
	case !t.UsesTunnel():
		return string(t.Mode)
	case t.Tunnel.Port == 0:
		return fmt.Sprintf("%s (%s)", t.Mode, t.Tunnel.Type)
	}
	return fmt.Sprintf("%s (%s, UDP port %d)", t.Mode, t.Tunnel.Type, t.Tunnel.Port)
}
