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
			// Not t.TempDir, whose parent the daemon's own user cannot enter.
			dir, err := os.MkdirTemp("", "waymark-frr")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			if err := os.Chmod(dir, 0o777); err != nil {
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
				"--vty_socket", dir, "--log", "stdout", "-i", filepath.Join(dir, "pid")).CombinedOutput()
			if err != nil || strings.Contains(string(out), "config") {
				t.Errorf("bgpd: %v\n%s", err, out)
			}
		})
	}
}
