// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"fmt"
	"strings"
)

// The chains that belong to us, in whichever table.
const (
	chainPrerouting  = "WAYMARK-PREROUTING"
	chainForward     = "WAYMARK-FORWARD"
	chainPostrouting = "WAYMARK-POSTROUTING"
	chainSNAT        = "WAYMARK-SNAT"
)

// iptTable is our part of a table of iptables: chains with their rules, and a
// jump from a built-in chain to the first.
type iptTable struct {
	table, builtin string
	chains         []iptChain
}

type iptChain struct {
	name  string
	rules []string
}

// places are all tables and built-in chains that may hold something of ours.
var places = [...]iptTable{
	{table: "raw", builtin: "PREROUTING", chains: []iptChain{{name: chainPrerouting}}},
	{table: "filter", builtin: "FORWARD", chains: []iptChain{{name: chainForward}}},
	{table: "nat", builtin: "POSTROUTING", chains: []iptChain{{name: chainPostrouting}, {name: chainSNAT}}},
}

func (r Ruleset) ipt(i ipt) []iptTable { return renderIPT(r, i.is4, i.client.HasRandomFully()) }

// beside wants acceptance where that iptables drops, and, when tidying up, nothing
// in the other tables.
func (r Ruleset) beside(i ipt, tidy bool) ([]iptTable, error) {
	drops, err := i.drops()
	var out []iptTable
	for _, p := range places {
		switch {
		case p.table == "filter" && drops:
			p.chains = []iptChain{{chainForward, acceptRules(r.Gateway)}}
			out = append(out, p)
		case p.table == "filter" || tidy:
			out = append(out, p)
		}
	}
	return out, err
}

// renderIPT says what a ruleset makes of the tables of a family, in the order
// of places. Chains without rules are not to exist.
func renderIPT(r Ruleset, is4, fullyRandom bool) []iptTable {
	masquerade := "-j MASQUERADE"
	if fullyRandom {
		masquerade += " --random-fully"
	}
	var pre []string
	for _, nic := range r.switchedNICs() {
		pre = append(pre, "-i "+nic+" -j DROP")
	}
	f := r.family(is4)
	post := []string{"-o " + r.Gateway + " -j RETURN"}
	var snat []string
	if f.masquerades() {
		for _, p := range f.local {
			post = append(post, fmt.Sprintf("-s %v -j %s", p, chainSNAT))
		}
		for _, p := range f.noMasquerade {
			snat = append(snat, fmt.Sprintf("-d %v -j RETURN", p))
		}
		snat = append(snat, masquerade)
	}
	rules := map[string][][]string{
		"raw":    {pre},
		"filter": {acceptRules(r.Gateway)},
		"nat":    {post, snat},
	}
	var tables []iptTable
	for _, p := range places {
		t := iptTable{table: p.table, builtin: p.builtin}
		for i, c := range p.chains {
			t.chains = append(t.chains, iptChain{c.name, rules[p.table][i]})
		}
		tables = append(tables, t)
	}
	return tables
}

// acceptRules are those of the filter table.
func acceptRules(gateway string) []string {
	return []string{"-i " + gateway + " -j ACCEPT", "-o " + gateway + " -j ACCEPT"}
}

// jump is the rule of the built-in chain, without what appends or deletes it.
func (t iptTable) jump() string {
	return "-m comment --comment waymark -j " + t.chains[0].name
}

// empty says that nothing of ours is to be in the table.
func (t iptTable) empty() bool { return len(t.chains[0].rules) == 0 }

// iptState is what is in a table of what concerns us.
type iptState struct {
	// jumps are the rules of the built-in chain that jump to our first chain.
	jumps []string
	// comments are those of the rules of each of our chains that exist.
	comments map[string][]string
}

// matches compares what is there with what should be.
func (t iptTable) matches(have iptState) bool {
	if keep, drop := t.sortJumps(have); keep == t.empty() || len(drop) > 0 {
		return false
	}
	for _, c := range t.chains {
		comments, exists := have.comments[c.name]
		if exists != (len(c.rules) > 0) || len(comments) != len(c.rules) {
			return false
		}
		for i, rule := range c.rules {
			if comments[i] != fingerprint(rule) {
				return false
			}
		}
	}
	return true
}

// restore is the input of iptables-restore --noflush that leads from what is
// there to what should be. Naming a chain empties it, so all of our rules are
// exchanged at once.
func (t iptTable) restore(have iptState) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("*%s", t.table)
	for _, c := range t.chains {
		if _, exists := have.comments[c.name]; exists || len(c.rules) > 0 {
			line(":%s - [0:0]", c.name)
		}
	}
	for _, c := range t.chains {
		for _, rule := range c.rules {
			line("-A %s -m comment --comment %q %s", c.name, fingerprint(rule), rule)
		}
	}
	keep, drop := t.sortJumps(have)
	for _, jump := range drop {
		line("-D %s %s", t.builtin, jump)
	}
	if !keep && !t.empty() {
		line("-I %s 1 %s", t.builtin, t.jump())
	}
	for _, c := range t.chains {
		if _, exists := have.comments[c.name]; exists && len(c.rules) == 0 {
			line("-X %s", c.name)
		}
	}
	line("COMMIT")
	return b.String()
}

// sortJumps says whether a jump stands that is wanted, and which are not.
func (t iptTable) sortJumps(have iptState) (keep bool, drop []string) {
	for _, jump := range have.jumps {
		if !keep && !t.empty() && strings.ReplaceAll(jump, `"`, "") == t.jump() {
			keep = true
		} else {
			drop = append(drop, jump)
		}
	}
	return keep, drop
}
