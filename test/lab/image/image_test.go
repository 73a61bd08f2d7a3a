// SPDX-License-Identifier: Apache-2.0

package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDebianSources(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"one-line entries": {
			files: map[string]string{"sources.list": `# the machine's
deb http://mirror.example/debian bookworm main contrib # comment
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian-security bookworm-security main
deb http://mirror.example/debian bookworm-backports main
deb http://mirror.example/debian bookworm main
`, "sources.list.d/other.list": "deb https://other.example/linux bookworm stable\n"},
			want: []string{
				"deb http://mirror.example/debian bookworm main",
				"deb http://mirror.example/debian-security bookworm-security main",
			},
		},
		"deb822": {
			files: map[string]string{"sources.list.d/debian.sources": `Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
 non-free-firmware
# a comment
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://other.example
Suites: stable
Components: main
`},
			want: []string{
				"deb http://mirror.example/debian bookworm main",
				"deb http://mirror.example/debian bookworm-updates main",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, test.files)
			got, err := debianSources(dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoDebianSources(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"sources.list.d/other.list": "deb https://other.example/linux stable main\n"})
	if got, err := debianSources(dir); err == nil {
		t.Errorf("sources of another distribution are taken: %v", got)
	}
}

func FuzzSources(f *testing.F) {
	f.Add("deb http://mirror.example/debian bookworm main\n")
	f.Add("Types: deb\nURIs: http://a\nSuites: bookworm\nComponents: main\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, line := range append(oneLineSources(text), deb822Sources(text)...) {
			if !strings.HasPrefix(line, "deb ") || strings.Contains(line, "\n") {
				t.Errorf("entry %q", line)
			}
		}
	})
}

func TestAptOptions(t *testing.T) {
	dump := `Acquire "";
Acquire::AllowInsecureRepositories "0";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example:3142";
Acquire::Check-Date "false";
Acquire::cdrom::mount "/media/cdrom/";
`
	want := []string{`Acquire::http::Proxy "http://proxy.example:3142";`, `Acquire::Check-Date "false";`}
	if diff := cmp.Diff(want, aptOptions(dump)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHashContext(t *testing.T) {
	files := map[string]string{
		".dockerignore":  "# comment\nout\n**/*_test.go\n",
		"go.mod":         "module m\n",
		"a/a.go":         "package a\n",
		"a/a_test.go":    "package a\n",
		"out/report":     "1",
		"a/out/kept.txt": "1",
	}
	base := t.TempDir()
	writeFiles(t, base, files)
	before, err := hashContext(base)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file    string
		changes bool
	}{
		"source":             {"a/a.go", true},
		"new file":           {"b/b.go", true},
		"name below ignored": {"a/out/kept.txt", true},
		"test":               {"a/a_test.go", false},
		"ignored directory":  {"out/report", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, files)
			writeFiles(t, dir, map[string]string{test.file: "changed"})
			after, err := hashContext(dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := after != before; got != test.changes {
				t.Errorf("key changed: %v, want %v", got, test.changes)
			}
		})
	}
}

func TestReadIgnoreRefusesUnknownPatterns(t *testing.T) {
	for _, pattern := range []string{"*.go", "!kept", "**/a/b", "a?"} {
		file := filepath.Join(t.TempDir(), "ignore")
		if err := os.WriteFile(file, []byte(pattern+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readIgnore(file); err == nil {
			t.Errorf("pattern %q was accepted", pattern)
		}
	}
}

// The repository's own file is of the kinds that the reader knows, or no key
// could be computed.
func TestRepositoryIgnoreFile(t *testing.T) {
	rules, err := readIgnore("../../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	for rel, want := range map[string]bool{
		"go.mod": false, "cmd": false, "build/Dockerfile": false,
		"test": true, ".git": true, "ovs/flow/flow_test.go": true,
	} {
		if got := rules.match(rel); got != want {
			t.Errorf("%s ignored: %v, want %v", rel, got, want)
		}
	}
}

func TestKeyOfKnowsBoundaries(t *testing.T) {
	if keyOf("ab", "c") == keyOf("a", "bc") {
		t.Error("parts run together")
	}
}

func TestRecipes(t *testing.T) {
	for _, name := range []string{"debian", "golang", "probe", "agnhost", "coredns"} {
		if !strings.Contains(recipe(name), "\nFROM ") {
			t.Errorf("recipe %s is empty", name)
		}
	}
}

func TestPruneFiles(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	var files []string
	for name, age := range map[string]time.Duration{
		"new": 0, "recent": time.Minute, "old": 3 * time.Hour, "older": 4 * time.Hour,
	} {
		file := filepath.Join(dir, name)
		writeFiles(t, dir, map[string]string{name: ""})
		if err := os.Chtimes(file, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	if err := pruneFiles(files, 1, now.Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{filepath.Join(dir, "new"), filepath.Join(dir, "recent")}, left); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
