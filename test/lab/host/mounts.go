// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"strings"
)

// mount is one line of /proc/self/mountinfo (proc(5)).
type mount struct {
	target  string
	kind    string
	options []string // of the file system, not of the mount
}

func readMounts() ([]mount, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	return parseMounts(string(data)), nil
}

// parseMounts leaves out lines that it does not understand.
func parseMounts(text string) []mount {
	var mounts []mount
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		mounts = append(mounts, mount{
			target:  unescape(left[4]),
			kind:    right[0],
			options: strings.Split(right[2], ","),
		})
	}
	return mounts
}

// unescape undoes the octal escapes of blank, tab, newline and backslash.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}
