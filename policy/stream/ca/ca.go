// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// The times of a CA, counted from when it is made. Advance is to be called much
// more often than any of them.
const (
	// Lifetime is how long a CA is valid.
	Lifetime = 365 * 24 * time.Hour
	// NextAfter is when its successor is made and published.
	NextAfter = 180 * 24 * time.Hour
	// SignsAfter is how long a successor is published before it signs.
	SignsAfter = 30 * 24 * time.Hour
	// skew is how wrong clocks may be: a CA is valid that long before it is made.
	skew = 24 * time.Hour
)

// The keys of an Authority's stored form.
const (
	CertificateKey     = "ca.crt"
	PrivateKey         = "ca.key"
	NextCertificateKey = "next.crt"
	NextPrivateKey     = "next.key"
	OldCertificatesKey = "old.crt"
)

// ErrInvalid is what errors about a stored Authority wrap.
var ErrInvalid = errors.New("invalid certificate authority")

// pair is a CA's certificate with its key.
type pair struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Authority is a CA, perhaps with a successor and with former ones. Immutable.
type Authority struct {
	current pair
	next    *pair
	// old signed what may still be in use.
	old []*x509.Certificate
}

// New makes an Authority.
func New(now time.Time) (*Authority, error) {
	current, err := newPair(now)
	if err != nil {
		return nil, err
	}
	return &Authority{current: *current}, nil
}

// Advance returns what the Authority is to be from now on, itself if nothing is
// due. One step is taken at a time, so that each is published before the next;
// only a CA that has ended is replaced at once.
func (a *Authority) Advance(now time.Time) (*Authority, error) {
	if len(a.old) > 0 {
		left := slices.DeleteFunc(slices.Clone(a.old), func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
		if len(left) < len(a.old) {
			return &Authority{current: a.current, next: a.next, old: left}, nil
		}
	}
	ended := now.After(a.current.certificate.NotAfter)
	switch {
	case a.next != nil && (ended || now.Sub(made(a.next.certificate)) >= SignsAfter):
		return &Authority{current: *a.next, old: append(slices.Clone(a.old), a.current.certificate)}, nil
	case a.next == nil && (ended || now.Sub(made(a.current.certificate)) >= NextAfter):
		next, err := newPair(now)
		if err != nil {
			return nil, err
		}
		return &Authority{current: a.current, next: next, old: a.old}, nil
	}
	return a, nil
}

// Bundle returns the certificates to trust as PEM.
func (a *Authority) Bundle() []byte {
	bundle := encode(a.current.certificate)
	if a.next != nil {
		bundle = append(bundle, encode(a.next.certificate)...)
	}
	for _, c := range a.old {
		bundle = append(bundle, encode(c)...)
	}
	return bundle
}

// Encode returns the stored form: values by the keys above. It holds private keys.
func (a *Authority) Encode() (map[string][]byte, error) {
	data := map[string][]byte{CertificateKey: encode(a.current.certificate)}
	var err error
	if data[PrivateKey], err = encodeKey(a.current.key); err != nil {
		return nil, err
	}
	if a.next != nil {
		data[NextCertificateKey] = encode(a.next.certificate)
		if data[NextPrivateKey], err = encodeKey(a.next.key); err != nil {
			return nil, err
		}
	}
	for _, c := range a.old {
		data[OldCertificatesKey] = append(data[OldCertificatesKey], encode(c)...)
	}
	return data, nil
}

// Decode reads the stored form. Errors wrap ErrInvalid and name the key, but
// never say what it holds.
func Decode(data map[string][]byte) (*Authority, error) {
	current, err := decodePair(data, CertificateKey, PrivateKey)
	if err != nil {
		return nil, err
	}
	a := &Authority{current: *current}
	if len(data[NextCertificateKey])+len(data[NextPrivateKey]) > 0 {
		if a.next, err = decodePair(data, NextCertificateKey, NextPrivateKey); err != nil {
			return nil, err
		}
	}
	if a.old, err = decodeCertificates(data[OldCertificatesKey]); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, OldCertificatesKey, err)
	}
	return a, nil
}

// Equal reports whether both are the same CA with the same successor.
func (a *Authority) Equal(b *Authority) bool {
	return b != nil && bytes.Equal(a.Bundle(), b.Bundle())
}

// made is when a CA was made.
func made(c *x509.Certificate) time.Time { return c.NotBefore.Add(skew) }

func newPair(now time.Time) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a CA's key: %w", err)
	}
	template := &x509.Certificate{
		// The time tells CAs apart for people; the key's ID does for programs.
		Subject:               pkix.Name{CommonName: "waymark-controller-ca " + now.UTC().Format(time.DateOnly)},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(Lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	certificate, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a CA: %w", err)
	}
	return &pair{certificate: certificate, key: key}, nil
}

// sign makes a certificate with a random serial number.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	var err error
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

const (
	certificateType = "CERTIFICATE"
	keyType         = "PRIVATE KEY"
)

func encode(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: c.Raw})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a CA's key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der}), nil
}

func decodeCertificates(data []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for {
		data = bytes.TrimSpace(data)
		if len(data) == 0 {
			return list, nil
		}
		block, rest := pem.Decode(data)
		if block == nil || block.Type != certificateType {
			return nil, errors.New("is not a PEM block " + certificateType)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list, data = append(list, c), rest
	}
}

func decodePair(data map[string][]byte, certificateKey, privateKey string) (*pair, error) {
	list, err := decodeCertificates(data[certificateKey])
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, certificateKey, err)
	case len(list) != 1 || !list[0].IsCA:
		return nil, fmt.Errorf("%w: %s: must be one certificate of a CA", ErrInvalid, certificateKey)
	}
	block, _ := pem.Decode(data[privateKey])
	if block == nil || block.Type != keyType {
		return nil, fmt.Errorf("%w: %s: is not a PEM block %s", ErrInvalid, privateKey, keyType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		// The parser's words may quote the key.
		return nil, fmt.Errorf("%w: %s: cannot be parsed", ErrInvalid, privateKey)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(list[0].PublicKey) {
		return nil, fmt.Errorf("%w: %s: is not the ECDSA key of %s", ErrInvalid, privateKey, certificateKey)
	}
	return &pair{certificate: list[0], key: key}, nil
}
