// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"testing"
)

func TestHTTP(t *testing.T) {
	free, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- HTTP(ctx, uint16(port)) }()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"127.0.0.1", "::1"} {
		base := "http://" + net.JoinHostPort(address, strconv.Itoa(port))
		for page, want := range map[string]string{"/healthz": "ok", "/hostname": host, "/clientip": address} {
			if got := get(t, base+page); got != want {
				t.Errorf("%s%s: %q, want %q", base, page, got, want)
			}
		}
		var hello Hello
		if err := json.Unmarshal([]byte(get(t, base+"/")), &hello); err != nil {
			t.Fatal(err)
		}
		want := netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))
		if hello.Host != host || hello.Server != want || hello.Client.Addr() != want.Addr() {
			t.Errorf("%s/: %+v", base, hello)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// get reads a page, trying until the server listens.
func get(t *testing.T, url string) string {
	t.Helper()
	for {
		response, err := http.Get(url)
		if err != nil {
			continue
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
}
