// SPDX-License-Identifier: Apache-2.0

package podlink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ownNamespace is the namespace of the calling thread.
const ownNamespace = "/proc/thread-self/ns/net"

// openNamespace opens the network namespace at the path.
func openNamespace(path string) (*os.File, error) {
	if path == "" {
		return nil, ErrNoNamespace
	}
	// O_NONBLOCK: a FIFO at the path would otherwise block the open.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, ErrNoNamespace
	case err != nil:
		return nil, err
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return nil, errors.Join(ErrNotNamespace, f.Close())
	}
	return f, nil
}

// sameNamespace reports whether two open namespaces are one.
func sameNamespace(a, b *os.File) (bool, error) {
	fa, err := a.Stat()
	if err != nil {
		return false, err
	}
	fb, err := b.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(fa, fb), nil
}

// openPod opens a Pod's namespace, which must not be the host's.
func openPod(path string) (*os.File, error) {
	pod, err := openNamespace(path)
	if err != nil {
		return nil, err
	}
	host, err := openNamespace(ownNamespace)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("host namespace: %w", err), pod.Close())
	}
	defer host.Close()
	same, err := sameNamespace(pod, host)
	if err == nil && same {
		err = fmt.Errorf("%w: it is the host's", ErrNotNamespace)
	}
	if err != nil {
		return nil, errors.Join(err, pod.Close())
	}
	return pod, nil
}

// inNamespace runs fn on a thread of its own that is in the namespace. Sysctls
// and sockets that fn opens are the namespace's.
func inNamespace(ns *os.File, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := openNamespace(ownNamespace)
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("opening the namespace of the thread: %w", err)
			return
		}
		defer home.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("entering namespace %s: %w", ns.Name(), err)
			return
		}
		err = fn()
		if backErr := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); backErr == nil {
			runtime.UnlockOSThread()
		} // else the thread ends with this goroutine: nobody else gets it
		done <- err
	}()
	return <-done
}
