// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"
)

// The times of a serving certificate.
const (
	servingLifetime = 24 * time.Hour
	// renewBefore the end a new one is made; clocks of agents may be wrong by
	// nearly that much.
	renewBefore = 8 * time.Hour
	// backDated is how much a serving certificate is older than it is.
	backDated = time.Hour
)

// SignerParams describe a Signer.
type SignerParams struct {
	// Name is the DNS name that the agents verify.
	Name string
	// Now is the clock.
	Now func() time.Time
}

// Signer keeps the serving certificate of one replica. Its methods may be
// called from any goroutine.
type Signer struct {
	params SignerParams

	mu        sync.Mutex
	authority *Authority
	serving   *tls.Certificate
}

// NewSigner returns a Signer that has no Authority yet.
func NewSigner(params SignerParams) *Signer { return &Signer{params: params} }

// Use makes the Signer sign with an Authority from now on.
func (s *Signer) Use(a *Authority) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.authority == nil || !s.authority.current.certificate.Equal(a.current.certificate) {
		s.serving = nil
	}
	s.authority = a
}

// Certificate returns the serving certificate in force, made anew if it is
// about to end.
func (s *Signer) Certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.authority == nil {
		return nil, errors.New("the certificate authority was not read yet")
	}
	now := s.params.Now()
	// A clock that was set back makes a new one as well.
	if s.serving != nil && now.Before(s.serving.Leaf.NotAfter.Add(-renewBefore)) && now.After(s.serving.Leaf.NotBefore) {
		return s.serving, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the serving certificate: %w", err)
	}
	parent := s.authority.current
	leaf, err := sign(&x509.Certificate{
		DNSNames:    []string{s.params.Name},
		NotBefore:   now.Add(-backDated),
		NotAfter:    now.Add(servingLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, parent.certificate, key.Public(), parent.key)
	if err != nil {
		return nil, fmt.Errorf("make the serving certificate: %w", err)
	}
	s.serving = &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	return s.serving, nil
}

// ServerTLS returns what a server uses: TLS 1.3 with the certificate in force
// at each handshake.
func (s *Signer) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		Time:           s.params.Now,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.Certificate() },
	}
}

// ClientTLS returns what an agent uses to verify that a server of the name was
// signed by one of a bundle's CAs.
func ClientTLS(bundle []byte, name string, now func() time.Time) (*tls.Config, error) {
	list, err := decodeCertificates(bundle)
	if err != nil {
		return nil, fmt.Errorf("%w: bundle: %w", ErrInvalid, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: bundle: no certificate", ErrInvalid)
	}
	pool := x509.NewCertPool()
	for _, c := range list {
		pool.AddCert(c)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Time: now, RootCAs: pool, ServerName: name}, nil
}
