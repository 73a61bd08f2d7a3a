// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	legacy bool
	path   string
	client *iptables.IPTables
	// tables are those that exist, for the legacy kind: looking at another
	// would create it.
	tables []string
}

// families are the families of iptables, with the program of each and the file
// that lists its legacy tables.
var families = [...]struct {
	proto       iptables.Protocol
	name, names string
}{
	{iptables.ProtocolIPv4, "iptables", "/proc/thread-self/net/ip_tables_names"},
	{iptables.ProtocolIPv6, "ip6tables", "/proc/thread-self/net/ip6_tables_names"},
}

// legacyTables says whether there are any tables of legacy iptables.
func legacyTables() bool {
	for _, fam := range families {
		if b, err := os.ReadFile(fam.names); err == nil && len(bytes.TrimSpace(b)) > 0 {
			return true
		}
	}
	return false
}

// iptFinder finds the programs, and asks each only once what it is.
type iptFinder struct{ known map[string]ipt }

// find returns the iptables of both families that act on this host: the
// program's default kind, and beside it the legacy one where the kernel has
// legacy tables of the family in use, since their rules count as well.
func (f *iptFinder) find() ([]ipt, error) {
	var found []ipt
	for _, fam := range families {
		b, err := os.ReadFile(fam.names)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("looking for %s: %w", fam.name, err)
		}
		tables := strings.Fields(string(b))
		programs := []string{fam.name}
		if len(tables) > 0 {
			programs = append(programs, fam.name+"-legacy")
		}
		var kinds []bool
		for _, name := range programs {
			i, err := f.open(name, fam.proto)
			if errors.Is(err, exec.ErrNotFound) || err == nil && slices.Contains(kinds, i.legacy) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("running %s: %w", name, err)
			}
			if i.legacy {
				i.tables = tables
			}
			kinds, found = append(kinds, i.legacy), append(found, i)
		}
	}
	return found, nil
}

// open asks a program, whose name may stand for either kind, what it is.
func (f *iptFinder) open(name string, proto iptables.Protocol) (ipt, error) {
	if i, ok := f.known[name]; ok {
		return i, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ipt{}, err
	}
	client, err := iptables.New(iptables.IPFamily(proto), iptables.Path(path), iptables.Timeout(lockWait))
	if err != nil {
		return ipt{}, err
	}
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		return ipt{}, err
	}
	i := ipt{
		is4: proto == iptables.ProtocolIPv4, legacy: bytes.Contains(version, []byte("legacy")), path: path, client: client,
	}
	if f.known == nil {
		f.known = make(map[string]ipt)
	}
	f.known[name] = i
	return i, nil
}

// has says whether a table may be looked at without creating it.
func (i ipt) has(table string) bool { return !i.legacy || slices.Contains(i.tables, table) }

// apply brings the tables about and returns whether it wrote. It goes on past
// errors.
func (i ipt) apply(ctx context.Context, want []iptTable) (bool, error) {
	var errs []error
	changed := false
	for _, t := range want {
		if t.empty() && !i.has(t.table) {
			continue
		}
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

// drops says whether FORWARD does away with what no rule accepts.
func (i ipt) drops() (bool, error) {
	if !i.has("filter") {
		return false, nil
	}
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
		rule, ok := strings.CutPrefix(r, "-A "+t.builtin+" ")
		if ok && strings.HasSuffix(r, "-j "+t.chains[0].name) {
			have.jumps = append(have.jumps, rule)
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
