// SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/waymark-net/waymark/test/lab/probe/serve"
)

// longestPage is as much of an answer over HTTP as is read, in bytes.
const longestPage = 64 << 10

// tryHTTP asks for the page that says who is there.
func tryHTTP(ctx context.Context, target Target, result *Result) error {
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	url := "http://" + netip.AddrPortFrom(target.Address, target.Port).String() + "/"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	start := time.Now()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, longestPage))
	if err != nil {
		return err
	}
	result.Millis = millis(time.Since(start))
	var hello serve.Hello
	if err := json.Unmarshal(body, &hello); err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s with %.80q: %w", response.Status, body, errWrong)
	}
	result.observe(hello)
	return nil
}

// dnsPort is where name servers listen.
const dnsPort = 53

// tryDNS looks up the addresses of a name in both families.
func tryDNS(ctx context.Context, target Target, result *Result) error {
	resolver := &net.Resolver{PreferGo: true}
	if target.Address.IsValid() {
		server := netip.AddrPortFrom(target.Address, cmp.Or(target.Port, dnsPort)).String()
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, network, server)
		}
	}
	start := time.Now()
	found, err := resolver.LookupNetIP(ctx, "ip", target.Lookup)
	if err != nil {
		return err
	}
	result.Millis = millis(time.Since(start))
	for _, a := range found {
		result.Addresses = append(result.Addresses, a.Unmap())
	}
	slices.SortFunc(result.Addresses, netip.Addr.Compare)
	return nil
}
