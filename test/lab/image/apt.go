// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// suite is the Debian release that images are made of.
const suite = "bookworm"

// debianSources returns the machine's own package sources of Debian's release,
// as one-line entries of component main, in the order found. Sources of other
// makers are left out: their packages are not in the image.
func debianSources(etcApt string) ([]string, error) {
	var sources []string
	for _, pattern := range []string{"sources.list", "sources.list.d/*.list", "sources.list.d/*.sources"} {
		files, err := filepath.Glob(filepath.Join(etcApt, pattern))
		if err != nil {
			return nil, fmt.Errorf("package sources: %w", err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("package sources: %w", err)
			}
			if strings.HasSuffix(file, ".sources") {
				sources = append(sources, deb822Sources(string(text))...)
			} else {
				sources = append(sources, oneLineSources(string(text))...)
			}
		}
	}
	sources = dedup(sources)
	if len(sources) == 0 {
		return nil, fmt.Errorf("package sources: nothing below %s names Debian %s, component main", etcApt, suite)
	}
	return sources, nil
}

// dedup removes repeated entries and keeps the order.
func dedup(entries []string) []string {
	var out []string
	for _, entry := range entries {
		if !slices.Contains(out, entry) {
			out = append(out, entry)
		}
	}
	return out
}

// wanted tells whether a suite is one of Debian's own for the release.
func wanted(s string) bool {
	return s == suite || s == suite+"-updates" || s == suite+"-security"
}

// oneLine matches sources.list(5) entries: options, URI, suite, components.
var oneLine = regexp.MustCompile(`^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.+)$`)

func oneLineSources(text string) []string {
	var out []string
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		m := oneLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || !wanted(m[2]) || !slices.Contains(strings.Fields(m[3]), "main") {
			continue
		}
		out = append(out, sourceLine(m[1], m[2]))
	}
	return out
}

// deb822Sources reads the stanzas of a .sources file.
func deb822Sources(text string) []string {
	var out []string
	for _, fields := range stanzas(strings.NewReader(text)) {
		if strings.EqualFold(fields["enabled"], "no") ||
			!slices.Contains(strings.Fields(fields["types"]), "deb") ||
			!slices.Contains(strings.Fields(fields["components"]), "main") {
			continue
		}
		for _, uri := range strings.Fields(fields["uris"]) {
			for _, s := range strings.Fields(fields["suites"]) {
				if wanted(s) {
					out = append(out, sourceLine(uri, s))
				}
			}
		}
	}
	return out
}

// stanzas reads paragraphs of `Field: value`, with folded lines, into maps with
// lower-case keys.
func stanzas(r io.Reader) []map[string]string {
	var out []map[string]string
	current, last := map[string]string{}, ""
	flush := func() {
		if len(current) > 0 {
			out = append(out, current)
		}
		current, last = map[string]string{}, ""
	}
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		line := scanner.Text()
		switch {
		case strings.TrimSpace(line) == "":
			flush()
		case strings.HasPrefix(line, "#"):
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				current[last] += "\n" + strings.TrimSpace(line)
			}
		default:
			name, value, _ := strings.Cut(line, ":")
			last = strings.ToLower(strings.TrimSpace(name))
			current[last] = strings.TrimSpace(value)
		}
	}
	flush()
	return out
}

// sourceLine is without the key's path: the base image has Debian's keys where
// apt looks for them.
func sourceLine(uri, s string) string {
	return fmt.Sprintf("deb %s %s main", uri, s)
}

// aptOptions turns the output of `apt-config dump Acquire` (proxies, checks of
// dates, retries) into options for the base image, so that apt works in it as
// it does on the machine. Options that only a machine has are left out.
func aptOptions(dump string) []string {
	var out []string
	for _, line := range strings.Split(dump, "\n") {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, " ")
		if !ok || value == `"";` || !strings.HasPrefix(name, "Acquire::") {
			continue
		}
		for _, prefix := range []string{
			"Acquire::Check-", "Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::ForceIPv",
		} {
			if strings.HasPrefix(name, prefix) {
				out = append(out, line)
				break
			}
		}
	}
	return out
}
