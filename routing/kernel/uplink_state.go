// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// stateVersion is the version of the file's form.
const stateVersion = 1

// uplinkState is what is on disk while a bridge stands in for a NIC.
type uplinkState struct {
	Version int    `json:"version"`
	NIC     string `json:"nic"`
	Bridge  string `json:"bridge"`
	// BootID is the boot in which it was written (random(4)).
	BootID string `json:"bootID"`
	// BridgeIndex is the interface index of the bridge that the config was
	// last complete on, 0 from the start of a move to its end.
	BridgeIndex int      `json:"bridgeIndex"`
	Config      l3Config `json:"config"`
	// NICSysctls and NICOffloads are the NIC's settings before the move.
	NICSysctls  map[string]string `json:"nicSysctls"`
	NICOffloads offloads          `json:"nicOffloads"`
}

// SavedNIC returns the NIC whose addresses a bridge has taken over according
// to the file, empty if there is no such file.
func SavedNIC(stateFile string) (string, error) {
	st, err := loadState(stateFile)
	if err != nil || st == nil {
		return "", err
	}
	return st.NIC, nil
}

// loadState returns nil if there is no file.
func loadState(path string) (*uplinkState, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("saved uplink: %w", err)
	}
	st, err := parseState(b)
	if err != nil {
		return nil, fmt.Errorf("saved uplink %s: %w", path, err)
	}
	return st, nil
}

func parseState(b []byte) (*uplinkState, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	st := new(uplinkState)
	if err := dec.Decode(st); err != nil {
		return nil, err
	}
	if st.Version != stateVersion {
		return nil, fmt.Errorf("version %d, want %d", st.Version, stateVersion)
	}
	if st.NIC == "" || st.Bridge == "" {
		return nil, errors.New("names no interface")
	}
	for _, a := range st.Config.Addresses {
		if !a.Prefix.IsValid() {
			return nil, errors.New("holds an invalid address")
		}
	}
	for _, r := range st.Config.Routes {
		if !r.Prefix.IsValid() || len(r.Hops) == 0 {
			return nil, errors.New("holds an invalid route")
		}
	}
	return st, nil
}

// saveState replaces the file as a whole and makes it durable before it returns.
func saveState(path string, st uplinkState) error {
	b, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return fmt.Errorf("saving uplink: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("saving uplink: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("saving uplink: %w", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("saving uplink: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func removeState(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting saved uplink: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("saving uplink: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("saving uplink: %w", err)
	}
	return nil
}
