// SPDX-License-Identifier: Apache-2.0

package unixsocket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// Listen makes the socket, readable by root only, and the directory that it is
// in. One that an earlier process left is replaced; it is not removed at the
// end, when it may be another's.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}
