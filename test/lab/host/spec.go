// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
)

// Spec describes one host. It travels as JSON from the starter to the init.
type Spec struct {
	// Lab and Name identify the host on the machine.
	Lab  string `json:"lab"`
	Name string `json:"name"`
	// StateDir holds the socket and the init's own log.
	StateDir string `json:"stateDir"`
	// DataDir holds what a private root keeps on disk (/etc, /opt, /var). It
	// stays when the host is killed and started again, as a disk would.
	DataDir string `json:"dataDir"`
	// PrivateRoot gives the host a root of its own: the machine's /usr and
	// other folders, and its own /dev/shm, /etc, /opt, /proc, /run, /sys, /var.
	// Without it the host sees the machine's files.
	PrivateRoot bool `json:"privateRoot"`
	// PrivateCgroup gives the host a cgroup namespace with all controllers.
	PrivateCgroup bool `json:"privateCgroup"`
	// Files are written into a private root before anything starts.
	Files []File `json:"files,omitempty"`
	// Binds are mounted into a private root.
	Binds []Bind `json:"binds,omitempty"`
	// Sysctls are set in order, before any link exists (key with slashes,
	// relative to /proc/sys).
	Sysctls []Sysctl `json:"sysctls,omitempty"`
	// Shadows are files below /proc/sys that are not namespaced: the host gets
	// a private copy, so that what its programs write does not reach the machine.
	Shadows []string `json:"shadows,omitempty"`
	// Env is added to the environment of every program in the host.
	Env []string `json:"env,omitempty"`
}

// File is a file of a private root.
type File struct {
	Path    string      `json:"path"`
	Content []byte      `json:"content"`
	Mode    fs.FileMode `json:"mode"`
	// Owner is the name of a user and group; root when empty.
	Owner string `json:"owner,omitempty"`
}

// Bind shows a folder of the machine in a private root.
type Bind struct {
	Source string `json:"source"`
	Target string `json:"target"`
}

// Sysctl is one kernel setting.
type Sysctl struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Process is a program that the init starts and supervises.
type Process struct {
	Name string   `json:"name"`
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"`
	// Log receives standard output and error; it is appended to.
	Log string `json:"log"`
	// Restart starts the program again, one second after it ended by itself.
	Restart bool `json:"restart"`
	// Socket, when set, is a Unix socket: the start is reported only when
	// something accepts connections there.
	Socket string `json:"socket,omitempty"`
}

// ProcessStatus is what the init knows of a supervised program.
type ProcessStatus struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"` // in the PID namespace of the host; 0 when not running
	Restarts int    `json:"restarts"`
	// Exit tells how the last run ended; empty when it never did.
	Exit string `json:"exit,omitempty"`
}

// namePattern keeps names usable as file names, host names and in cgroups.
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]{0,31}$`)

// ValidName tells whether a lab or host may be called so.
func ValidName(name string) bool { return namePattern.MatchString(name) }

func (s *Spec) validate() error {
	for _, name := range []string{s.Lab, s.Name} {
		if !ValidName(name) {
			return fmt.Errorf("name %q: want letters, digits and dashes, at most 32", name)
		}
	}
	if !s.PrivateRoot && (len(s.Files) > 0 || len(s.Binds) > 0 || len(s.Shadows) > 0) {
		return fmt.Errorf("host %s: files, binds and shadows need a private root", s.Name)
	}
	return nil
}

// NetNS is the name under which the network namespace of a host appears in
// /run/netns. Lab names hold no dot, so no name is a prefix of another lab's.
func NetNS(lab, host string) string { return netnsPrefix(lab) + host }

func netnsPrefix(lab string) string { return "waymark." + lab + "." }

const netnsDir = "/run/netns"

func socketPath(stateDir string) string { return filepath.Join(stateDir, "control.sock") }

// LogPath is the log of the init itself, where a host that does not start says why.
func LogPath(stateDir string) string { return filepath.Join(stateDir, "init.log") }
