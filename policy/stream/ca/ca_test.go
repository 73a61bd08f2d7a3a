// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const name = "waymark-controller.kube-system.svc"

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// handshake connects a client with a bundle to a server, each with its clock.
func handshake(t *testing.T, s *Signer, bundle []byte, clock time.Time) error {
	t.Helper()
	config, err := ClientTLS(bundle, name, func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", s.ServerTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 1)) // until the client is done
		_ = conn.Close()
	}()
	client, err := tls.Dial("tcp", listener.Addr().String(), config)
	if err != nil {
		return err
	}
	defer client.Close()
	if version := client.ConnectionState().Version; version != tls.VersionTLS13 {
		t.Errorf("TLS version %x", version)
	}
	return nil
}

// TestRotation lives through four years day by day, with agents that get the
// bundle late and whose clocks are wrong: none is ever refused.
func TestRotation(t *testing.T) {
	now := start
	a, err := New(now)
	if err != nil {
		t.Fatal(err)
	}
	signer := NewSigner(SignerParams{Name: name, Now: func() time.Time { return now }})
	bundles := [][]byte{a.Bundle()}
	signers := map[string]bool{}
	for day := range 4 * 365 {
		now = start.Add(time.Duration(day) * 24 * time.Hour)
		if a, err = a.Advance(now); err != nil {
			t.Fatal(err)
		}
		// Through the stored form, as another replica would.
		data, err := a.Encode()
		if err != nil {
			t.Fatal(err)
		}
		stored, err := Decode(data)
		if err != nil || !stored.Equal(a) {
			t.Fatalf("day %d: stored form: %v", day, err)
		}
		signer.Use(stored)
		bundles = append(bundles, a.Bundle())
		if size := bytes.Count(a.Bundle(), []byte("BEGIN")); size > 3 {
			t.Errorf("day %d: %d certificates in the bundle", day, size)
		}
		certificate, err := signer.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		signers[string(certificate.Leaf.AuthorityKeyId)] = true
		if day%15 > 0 {
			continue
		}
		late := bundles[max(0, len(bundles)-20)] // 20 days old
		for _, clock := range []time.Time{now.Add(-30 * time.Minute), now, now.Add(30 * time.Minute)} {
			if err := handshake(t, signer, late, clock); err != nil {
				t.Fatalf("day %d, clock of the agent %s: %v", day, clock.Sub(now), err)
			}
		}
	}
	if len(signers) < 6 {
		t.Errorf("%d CAs signed in four years", len(signers))
	}
}

func TestAdvance(t *testing.T) {
	a, err := New(start)
	if err != nil {
		t.Fatal(err)
	}
	step := func(a *Authority, after time.Duration) *Authority {
		t.Helper()
		b, err := a.Advance(start.Add(after))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if b := step(a, NextAfter-time.Second); b != a {
		t.Error("a new CA before its time")
	}
	if b := step(a, -time.Hour); b != a {
		t.Error("a new CA as the clock was set back")
	}
	next := step(a, NextAfter)
	if next.next == nil || !next.current.certificate.Equal(a.current.certificate) {
		t.Fatal("no successor beside the CA that signs")
	}
	if b := step(next, NextAfter+SignsAfter-time.Second); b != next {
		t.Error("the successor signs before its time")
	}
	after := step(next, NextAfter+SignsAfter)
	if !after.current.certificate.Equal(next.next.certificate) || after.next != nil || len(after.old) != 1 {
		t.Error("the successor does not sign")
	}
	if b := step(after, Lifetime+time.Second); len(b.old) != 0 {
		t.Error("an old CA outlives its end")
	}
	// Nobody advanced for years.
	late := step(step(a, 2*Lifetime), 2*Lifetime)
	if !late.current.certificate.NotAfter.After(start.Add(2 * Lifetime)) {
		t.Error("a CA that ended signs on")
	}
}

func TestSignerRenews(t *testing.T) {
	now := start
	signer := NewSigner(SignerParams{Name: name, Now: func() time.Time { return now }})
	if _, err := signer.Certificate(); err == nil {
		t.Error("a certificate without a CA")
	}
	a, err := New(start)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(start)
	if err != nil {
		t.Fatal(err)
	}
	serial := func(a *Authority, after time.Duration) string {
		t.Helper()
		now = start.Add(after)
		signer.Use(a)
		c, err := signer.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	first := serial(a, 0)
	got := []bool{
		serial(a, servingLifetime-renewBefore-time.Second) == first,
		serial(a, servingLifetime-renewBefore+time.Second) == first,
		serial(a, 0) == serial(a, -48*time.Hour),
		serial(a, 0) == serial(b, 0),
	}
	if diff := cmp.Diff([]bool{true, false, false, false}, got); diff != "" {
		t.Errorf("the same certificate (-want +got):\n%s", diff)
	}
}

func TestForeignServer(t *testing.T) {
	a, err := New(start)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := New(start)
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return start }
	for _, test := range []struct {
		name, serves string
		authority    *Authority
		clock        time.Time
		want         string
	}{
		{name: "foreign CA", serves: name, authority: foreign, clock: start, want: "unknown authority"},
		{name: "other name", serves: "kubernetes.default.svc", authority: a, clock: start, want: "not " + name},
		{name: "ended", serves: name, authority: a, clock: start.Add(25 * time.Hour), want: "expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			signer := NewSigner(SignerParams{Name: test.serves, Now: clock})
			signer.Use(test.authority)
			err := handshake(t, signer, a.Bundle(), test.clock)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	for _, bundle := range []string{"", "x"} {
		if _, err := ClientTLS([]byte(bundle), name, clock); !errors.Is(err, ErrInvalid) {
			t.Errorf("bundle %q: %v", bundle, err)
		}
	}
}

func stored(t testing.TB) map[string][]byte {
	t.Helper()
	a, err := New(start)
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{NextAfter, NextAfter + SignsAfter, 2 * NextAfter} {
		if a, err = a.Advance(start.Add(after)); err != nil {
			t.Fatal(err)
		}
	}
	data, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != 5 {
		t.Fatalf("%d keys stored", len(data))
	}
	return data
}

func TestDecodeRefuses(t *testing.T) {
	for key := range stored(t) {
		for what, value := range map[string]string{"no PEM": "secret", "no DER": "-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n"} {
			t.Run(key+" "+what, func(t *testing.T) {
				data := stored(t)
				data[key] = []byte(value)
				_, err := Decode(data)
				if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "secret") {
					t.Errorf("error %v", err)
				}
			})
		}
	}
	swapped := stored(t)
	swapped[PrivateKey] = swapped[NextPrivateKey]
	if _, err := Decode(swapped); !errors.Is(err, ErrInvalid) {
		t.Errorf("a key of another certificate: %v", err)
	}
	leaf := stored(t)
	leaf[CertificateKey] = append(leaf[CertificateKey], leaf[CertificateKey]...)
	if _, err := Decode(leaf); !errors.Is(err, ErrInvalid) {
		t.Errorf("two certificates: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	data := stored(f)
	f.Add(data[CertificateKey], data[PrivateKey], data[OldCertificatesKey])
	f.Add([]byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, certificate, key, old []byte) {
		a, err := Decode(map[string][]byte{CertificateKey: certificate, PrivateKey: key, OldCertificatesKey: old})
		if err != nil {
			return
		}
		if _, err := a.Advance(start); err != nil {
			t.Error(err)
		}
		if _, err := ClientTLS(a.Bundle(), name, time.Now); err != nil {
			t.Error(err)
		}
	})
}
