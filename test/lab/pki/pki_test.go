// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"testing"
	"time"
)

func TestIssue(t *testing.T) {
	first, err := NewAuthority(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	written, err := first.PEM()
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ReadAuthority(written, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue(Request{
		CommonName: "system:node:n1",
		Groups:     []string{"system:nodes"},
		Addresses:  []netip.Addr{netip.MustParseAddr("172.30.1.11"), netip.MustParseAddr("fd30::11")},
		Names:      []string{"n1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(written.Cert)
	for _, name := range []string{"172.30.1.11", "fd30::11", "n1"} {
		_, err := loaded.Leaf.Verify(x509.VerifyOptions{
			DNSName: name, Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			t.Errorf("verify %s: %v", name, err)
		}
	}
	if got := loaded.Leaf.Subject.String(); got != "CN=system:node:n1,O=system:nodes" {
		t.Errorf("subject %q", got)
	}
}

func TestReadAuthorityRefuses(t *testing.T) {
	if _, err := ReadAuthority(Pair{Cert: []byte("x"), Key: []byte("y")}, time.Now); err == nil {
		t.Error("garbage: no error")
	}
}
