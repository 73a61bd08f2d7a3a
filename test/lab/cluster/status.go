// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/waymark-net/waymark/test/lab/topology"
)

// statusDeadline bounds each question of Status: parts of a lab may be broken.
const statusDeadline = 10 * time.Second

// Status writes what of the lab runs: hosts with their programs, the cluster's
// nodes, the routers' sessions. Parts that do not answer are said to.
func (l *Lab) Status(ctx context.Context, out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "HOST\tROLE\tADDRESSES\tPROGRAMS")
	for _, h := range l.Topology.Hosts {
		var addresses []string
		for _, a := range h.Addresses() {
			addresses = append(addresses, a.String())
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", h.Name, h.Role, strings.Join(addresses, " "), l.programs(ctx, h))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	type question struct {
		title string
		ask   func(context.Context) (string, error)
	}
	questions := []question{
		{"nodes", func(ctx context.Context) (string, error) { return l.Kubectl(ctx, "get", "nodes", "-o", "wide") }},
		{"pods", func(ctx context.Context) (string, error) { return l.Kubectl(ctx, "get", "pods", "-A", "-o", "wide") }},
	}
	for _, r := range l.Topology.WithRole(topology.RoleToR, topology.RoleSpine) {
		questions = append(questions, question{"BGP sessions of " + r.Name, func(ctx context.Context) (string, error) {
			return l.Vtysh(ctx, r.Name, "show bgp summary")
		}})
	}
	for _, q := range questions {
		ctx, cancel := context.WithTimeout(ctx, statusDeadline)
		text, err := q.ask(ctx)
		cancel()
		if err != nil {
			text = err.Error()
		}
		if _, err := fmt.Fprintf(out, "\n%s:\n%s\n", q.title, strings.TrimSpace(text)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) programs(ctx context.Context, h topology.Host) string {
	ctx, cancel := context.WithTimeout(ctx, statusDeadline)
	defer cancel()
	programs, err := l.attach(h.Name).Processes(ctx)
	if err != nil {
		return "DOWN"
	}
	var words []string
	for _, p := range programs {
		word := p.Name
		if p.PID == 0 {
			word += "(DOWN)"
		}
		if p.Restarts > 0 {
			word += fmt.Sprintf("(%d restarts)", p.Restarts)
		}
		words = append(words, word)
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, " ")
}
