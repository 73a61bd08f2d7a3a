// SPDX-License-Identifier: Apache-2.0

package unixctl

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// daemon answers one command and returns its socket and what it was sent.
func daemon(t *testing.T, answer string) (string, <-chan string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "wm-ctl") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "ctl")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	got := make(chan string, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 4096)
		n, _ := conn.Read(buffer)
		got <- string(buffer[:n])
		_, _ = io.WriteString(conn, answer)
	}()
	return path, got
}

func TestCall(t *testing.T) {
	socket, got := daemon(t, `{"id":0,"error":null,"result":"done\n"}`)
	said, err := Call(t.Context(), socket, "dpctl/ipf-set-min-frag", "v4", "400")
	if err != nil || said != "done\n" {
		t.Errorf("said %q, %v", said, err)
	}
	if d := cmp.Diff(`{"method":"dpctl/ipf-set-min-frag","params":["v4","400"],"id":0}`, strings.TrimSpace(<-got)); d != "" {
		t.Errorf("sent (-want +got):\n%s", d)
	}
}

func TestCallFails(t *testing.T) {
	for name, answer := range map[string]string{
		"refused": `{"id":0,"error":"no such datapath\n","result":null}`, "nothing": "", "garbage": "{{", "neither": `{"id":0}`, "wrong type": `{"result":7}`,
	} {
		socket, _ := daemon(t, answer)
		_, err := Call(t.Context(), socket, "version")
		if err == nil || !strings.Contains(err.Error(), "version") || errors.Is(err, ErrRefused) != (name == "refused") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Call(t.Context(), "/nonexistent/ctl", "version"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(`{"id":0,"error":null,"result":"done"}`)
	f.Add(`{"id":0,"error":"no","result":null}`)
	f.Fuzz(func(t *testing.T, answer string) {
		socket, _ := daemon(t, answer)
		if said, err := Call(t.Context(), socket, "version"); err != nil && said != "" {
			t.Errorf("both an answer and an error: %q, %v", said, err)
		}
	})
}
