// SPDX-License-Identifier: Apache-2.0

package cniinstall

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/waymark-net/waymark/internal/cniapi"
)

// Where things are in the image and, as the manifests mount it, on the node.
const (
	DefaultSource     = "/usr/local/lib/waymark/cni"
	DefaultBinDir     = "/host/opt/cni/bin"
	DefaultConfigPath = "/host/etc/cni/net.d/05-waymark.conflist"
)

// cniVersion is the version of the installed configuration. The plugin speaks
// 1.1.0, but a runtime refuses a configuration that is newer than itself, and
// containerd 1.6 and 1.7 know 1.0.0.
const cniVersion = "1.0.0"

// tempPrefix starts the names of files that are not complete yet.
const tempPrefix = ".waymark-tmp-"

// InstallBinaries copies every file of the source directory to the target
// directory as an executable, and returns the names of those that were not
// there yet or different. It goes on past failures.
func InstallBinaries(source, target string) (changed []string, err error) {
	entries, err := os.ReadDir(source)
	if err != nil {
		return nil, fmt.Errorf("installing CNI plugins: %w", err)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return nil, fmt.Errorf("installing CNI plugins: %w", err)
	}
	errs := []error{removeTemps(target)}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		written, err := installFile(filepath.Join(source, e.Name()), filepath.Join(target, e.Name()))
		if err != nil {
			errs = append(errs, fmt.Errorf("installing CNI plugin %s: %w", e.Name(), err))
		}
		if written {
			changed = append(changed, e.Name())
		}
	}
	return changed, errors.Join(errs...)
}

func installFile(source, target string) (bool, error) {
	src, err := os.Open(source)
	if err != nil {
		return false, err
	}
	defer src.Close()
	same, err := sameContent(src, target, 0o755)
	if err != nil || same {
		return false, err
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	if err := replace(target, src, 0o755); err != nil {
		return false, err
	}
	return true, nil
}

// WriteConfig writes the network configuration list and reports whether it was
// not there yet or different. The socket is where the plugin finds the agent.
func WriteConfig(path, socket string) (bool, error) {
	data, err := config(socket)
	if err != nil {
		return false, fmt.Errorf("encoding the CNI configuration: %w", err)
	}
	same, err := sameContent(bytes.NewReader(data), path, 0o644)
	if same {
		return false, nil
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = removeTemps(filepath.Dir(path))
	}
	if err == nil {
		err = replace(path, bytes.NewReader(data), 0o644)
	}
	if err != nil {
		return false, fmt.Errorf("writing the CNI configuration: %w", err)
	}
	return true, nil
}

// config is the network configuration list: our plugin, then host ports, then
// bandwidth limits.
func config(socket string) ([]byte, error) {
	type plugin struct {
		Type         string          `json:"type"`
		Socket       string          `json:"socket,omitempty"`
		Capabilities map[string]bool `json:"capabilities,omitempty"`
		SNAT         *bool           `json:"snat,omitempty"`
	}
	snat := true
	data, err := json.MarshalIndent(struct {
		CNIVersion string   `json:"cniVersion"`
		Name       string   `json:"name"`
		Plugins    []plugin `json:"plugins"`
	}{
		CNIVersion: cniVersion,
		Name:       cniapi.NetworkName,
		Plugins: []plugin{
			{Type: cniapi.PluginType, Socket: socket},
			{Type: "portmap", Capabilities: map[string]bool{"portMappings": true}, SNAT: &snat},
			{Type: "bandwidth", Capabilities: map[string]bool{"bandwidth": true}},
		},
	}, "", "  ")
	return append(data, '\n'), err
}

// sameContent reports whether the file at path has this content and mode.
func sameContent(want io.Reader, path string, mode fs.FileMode) (bool, error) {
	have, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer have.Close()
	fi, err := have.Stat()
	if err != nil || fi.Mode() != mode {
		return false, err
	}
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(want, a)
		m, errB := io.ReadFull(have, b)
		if !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return ended(errA) && ended(errB), errors.Join(unexpected(errA), unexpected(errB))
		}
	}
}

func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func unexpected(err error) error {
	if ended(err) {
		return nil
	}
	return err
}

// replace puts content at path with the help of a temporary file beside it.
func replace(path string, content io.Reader, mode fs.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), tempPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = io.Copy(tmp, content)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync() // else a crash could leave an empty file of the new name
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// removeTemps removes what an installation that was killed left.
func removeTemps(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
