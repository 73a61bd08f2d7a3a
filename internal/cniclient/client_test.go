// SPDX-License-Identifier: Apache-2.0

package cniclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/waymark-net/waymark/internal/cniapi"
)

// socketPath is short enough for a socket and removed at the end.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "waymark")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "cni.sock")
}

// serve answers on the socket until the test ends.
func serve(t *testing.T, socket string, handler http.HandlerFunc) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
}

func args(socket string) *skel.CmdArgs {
	return &skel.CmdArgs{
		ContainerID: "c1", Netns: "/ns/c1", IfName: "eth0", Args: "K8S_POD_NAME=web",
		StdinData: []byte(`{"cniVersion":"1.1.0","name":"waymark","socket":"` + socket + `"}`),
	}
}

func TestRequest(t *testing.T) {
	for _, command := range []cniapi.Command{cniapi.Add, cniapi.Del, cniapi.Check, cniapi.GC, cniapi.Status} {
		t.Run(string(command), func(t *testing.T) {
			socket := socketPath(t)
			var got cniapi.Request
			var where string
			serve(t, socket, func(w http.ResponseWriter, r *http.Request) {
				where = r.Method + " " + r.URL.Path
				body, err := io.ReadAll(r.Body)
				if err == nil {
					err = json.Unmarshal(body, &got)
				}
				if err != nil {
					t.Error(err)
				}
				if _, err := w.Write([]byte(`{"answer":1}`)); err != nil {
					t.Error(err)
				}
			})
			var out bytes.Buffer
			in := args(socket)
			if err := New(Params{Stdout: &out}).call(command, in); err != nil {
				t.Fatal(err)
			}
			want := cniapi.Request{
				Command: command, ContainerID: "c1", NetNS: "/ns/c1", IfName: "eth0",
				Args: "K8S_POD_NAME=web", Config: in.StdinData,
			}
			if d := cmp.Diff(want, got); d != "" || where != "POST "+cniapi.Path {
				t.Errorf("%s (-want +got):\n%s", where, d)
			}
			printed := map[bool]string{true: `{"answer":1}`}[command == cniapi.Add]
			if out.String() != printed {
				t.Errorf("printed %q, want %q", out.String(), printed)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	answer := func(status int, body string) func(*testing.T, string) {
		return func(t *testing.T, socket string) {
			serve(t, socket, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(status)
				if _, err := io.WriteString(w, body); err != nil {
					t.Error(err)
				}
			})
		}
	}
	away := func(*testing.T, string) {}
	tests := map[string]struct {
		command cniapi.Command
		agent   func(*testing.T, string)
		code    uint
		text    string
	}{
		"ADD without agent":    {cniapi.Add, away, types.ErrTryAgainLater, "the waymark agent does not answer"},
		"DEL without agent":    {cniapi.Del, away, types.ErrTryAgainLater, "the waymark agent does not answer"},
		"STATUS without agent": {cniapi.Status, away, types.ErrPluginNotAvailable, "the waymark agent does not answer"},
		"refused": {cniapi.Add, func(t *testing.T, socket string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}, types.ErrTryAgainLater, "connection refused"},
		"killed meanwhile": {cniapi.Add, func(t *testing.T, socket string) {
			serve(t, socket, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}, types.ErrTryAgainLater, "EOF"},
		"CNI error":     {cniapi.Del, answer(503, `{"code":11,"msg":"no free address"}`), 11, "no free address"},
		"no CNI error":  {cniapi.Add, answer(502, `bad gateway`), types.ErrInternal, "answered 502 Bad Gateway"},
		"empty error":   {cniapi.Add, answer(404, `{}`), types.ErrInternal, "answered 404 Not Found"},
		"no such path":  {cniapi.Check, answer(404, "404 page not found\n"), types.ErrInternal, "404"},
		"not a socket":  {cniapi.Add, func(t *testing.T, s string) { write(t, s) }, types.ErrTryAgainLater, "refused"},
		"broken answer": {cniapi.Add, truncated, types.ErrTryAgainLater, "unexpected EOF"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			socket := socketPath(t)
			tc.agent(t, socket)
			err := New(Params{Stdout: io.Discard, RestartWait: -1}).call(tc.command, args(socket))
			var cniErr *types.Error
			if !errors.As(err, &cniErr) || cniErr.Code != tc.code || !strings.Contains(cniErr.Error(), tc.text) {
				t.Errorf("got error %#v, want code %d and %q", err, tc.code, tc.text)
			}
		})
	}
}

func write(t *testing.T, path string) {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func truncated(t *testing.T, socket string) {
	serve(t, socket, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		if _, err := io.WriteString(w, "{"); err != nil {
			t.Error(err)
		}
	})
}

func TestGarbageConfiguration(t *testing.T) {
	in := args("")
	in.StdinData = []byte(`{"socket":1}`)
	err := New(Params{Stdout: io.Discard}).call(cniapi.Add, in)
	var cniErr *types.Error
	if !errors.As(err, &cniErr) || cniErr.Code != types.ErrDecodingFailure {
		t.Errorf("got error %v", err)
	}
}

// TestRestartIsWaitedFor starts the agent after the plugin.
func TestRestartIsWaitedFor(t *testing.T) {
	socket := socketPath(t)
	result := make(chan error, 1)
	go func() {
		result <- New(Params{Stdout: io.Discard, RestartWait: time.Minute}).call(cniapi.Del, args(socket))
	}()
	serve(t, socket, func(w http.ResponseWriter, _ *http.Request) {
		if _, err := io.WriteString(w, "{}"); err != nil {
			t.Error(err)
		}
	})
	if err := <-result; err != nil {
		t.Error(err)
	}
}
