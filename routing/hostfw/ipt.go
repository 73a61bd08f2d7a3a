// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// lockWait is how long iptables waits for its lock, in seconds.
const lockWait = 10

// ipt is iptables or ip6tables of one kind (nft or legacy).
type ipt struct {
	is4    bool
	path   string
	client *iptables.IPTables
}

// findIPT returns the iptables of both families that act on this host: the
// program's default kind, and beside it the legacy one where the kernel has
// legacy tables of the family in use, since their rules count as well.
// Listing with the legacy program would create its tables, so it is only
// called where they are.
func findIPT() ([]ipt, error) {
	var found []ipt
	for _, f := range []struct {
		is4   bool
		proto iptables.Protocol
		name  string
		names string
	}{
		{true, iptables.ProtocolIPv4, "iptables", "/proc/net/ip_tables_names"},
		{false, iptables.ProtocolIPv6, "ip6tables", "/proc/net/ip6_tables_names"},
	} {
		paths := []string{f.name}
		if tables, err := os.ReadFile(f.names); err == nil && len(bytes.TrimSpace(tables)) > 0 {
			paths = append(paths, f.name+"-legacy")
		}
		seen := make(map[string]bool)
		for _, name := range paths {
			path, err := exec.LookPath(name)
			if errors.Is(err, exec.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("looking for %s: %w", name, err)
			}
			client, err := iptables.New(iptables.IPFamily(f.proto), iptables.Path(path), iptables.Timeout(lockWait))
			if err != nil {
				return nil, fmt.Errorf("running %s: %w", path, err)
			}
			kind := kindOf(path)
			if !seen[kind] {
				seen[kind] = true
				found = append(found, ipt{f.is4, path, client})
			}
		}
	}
	return found, nil
}

// kindOf tells the legacy program from the other: the default name may be either.
func kindOf(path string) string {
	out, err := exec.Command(path, "--version").Output()
	if err == nil && strings.Contains(string(out), "legacy") {
		return "legacy"
	}
	return "nft"
}

// apply brings the tables about and returns whether it wrote. It goes on past
// errors.
func (i ipt) apply(ctx context.Context, want []iptTable) (bool, error) {
	var errs []error
	changed := false
	for _, t := range want {
		have, err := i.read(t)
		if err == nil && !t.matches(have) {
			err = i.run(ctx, t.restore(have))
			changed = changed || err == nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: table %s: %w", i.path, t.table, err))
		}
	}
	return changed, errors.Join(errs...)
}

// remove takes all of ours away and returns whether there was anything.
func (i ipt) remove(ctx context.Context) (bool, error) { return i.apply(ctx, places[:]) }

// drops says whether FORWARD does away with what no rule accepts.
func (i ipt) drops() (bool, error) {
	rules, err := i.client.List("filter", "FORWARD")
	if err != nil {
		return false, fmt.Errorf("%s: listing FORWARD: %w", i.path, err)
	}
	return forwardDrops(rules), nil
}

var unconditional = regexp.MustCompile(`^-A FORWARD -j (DROP|REJECT)\b`)

func forwardDrops(rules []string) bool {
	return slices.ContainsFunc(rules, func(r string) bool {
		return strings.HasPrefix(r, "-P FORWARD DROP") || unconditional.MatchString(r)
	})
}

func (i ipt) read(t iptTable) (iptState, error) {
	have := iptState{comments: make(map[string][]string)}
	rules, err := i.client.List(t.table, t.builtin)
	if err != nil {
		return have, err
	}
	for _, r := range rules {
		if strings.HasSuffix(r, " -j "+t.chains[0].name) {
			have.jumps++
		}
	}
	for _, c := range t.chains {
		rules, err := i.client.List(t.table, c.name)
		if e := (*iptables.Error)(nil); errors.As(err, &e) && e.ExitStatus() == 1 {
			continue // no such chain; both kinds word it in their own way
		}
		if err != nil {
			return have, err
		}
		have.comments[c.name] = commentsOf(rules)
	}
	return have, nil
}

var comment = regexp.MustCompile(`--comment "?(waymark:[0-9a-f]+)"?( |$)`)

// commentsOf returns our comment of each rule, empty for one without.
func commentsOf(rules []string) []string {
	var out []string
	for _, r := range rules {
		if !strings.HasPrefix(r, "-A ") {
			continue
		}
		if m := comment.FindStringSubmatch(r); m != nil {
			out = append(out, m[1])
		} else {
			out = append(out, "")
		}
	}
	return out
}

func (i ipt) run(ctx context.Context, input string) error {
	cmd := exec.CommandContext(ctx, i.path+"-restore", "--noflush", fmt.Sprintf("--wait=%d", lockWait))
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("iptables-restore: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
