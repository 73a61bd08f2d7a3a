// SPDX-License-Identifier: Apache-2.0

//go:build integration

package frr

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The real daemon reads what is in testdata without a complaint.
func TestGoldenFilesAreRead(t *testing.T) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join("testdata", tc.name+".golden"))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "bgpd.conf")
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), "/usr/lib/frr/bgpd", "-C", "-f", path,
				"--vty_socket", dir, "--log", "stdout", "-i", filepath.Join(dir, "pid"), "-u", "root", "-g", "root").CombinedOutput()
			if err != nil || strings.Contains(string(out), "config") {
				t.Errorf("bgpd: %v\n%s", err, out)
			}
		})
	}
}
