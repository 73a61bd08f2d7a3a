// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/policy/stream/ca"
)

// AuthorityName names the Secret with the controllers' certificate authority,
// in AuthorityNamespace, and the ConfigMap in kube-system with what to trust.
const AuthorityName = "waymark-controller-ca"

// AuthorityNamespace is where nobody but the controllers reads Secrets. Agents
// read those of kube-system, which hold the passwords of BGP sessions.
const AuthorityNamespace = "waymark-controller"

// BundleKey is the ConfigMap's key with the certificates to trust as PEM.
const BundleKey = "ca.crt"

// AuthorityParams describe an AuthorityStore.
type AuthorityParams struct {
	Clients *Clients
	// Now is the clock that says what is due.
	Now func() time.Time
}

// AuthorityStore keeps the controllers' certificate authority in the cluster.
// Every replica has one; whichever comes first makes and rotates it.
type AuthorityStore struct{ params AuthorityParams }

// NewAuthorityStore returns an AuthorityStore.
func NewAuthorityStore(params AuthorityParams) *AuthorityStore { return &AuthorityStore{params} }

// Sync makes the Secret what it is to be now, publishes what to trust, and then
// returns the authority to sign with. A replica that another one was faster
// than reads again: also one that may have published what was to be trusted
// before that. A Secret that cannot be used is an error and is left alone:
// somebody has to look at it; deleting it makes a new CA.
func (s *AuthorityStore) Sync(ctx context.Context) (*ca.Authority, error) {
	const tries = 10 // at each, one replica succeeds
	var last error
	for range tries {
		authority, version, err := s.advance(ctx)
		if err == nil {
			err = s.publish(ctx, authority.Bundle())
		}
		if err == nil {
			err = s.unchanged(ctx, version)
		}
		if err == nil {
			return authority, nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return nil, err
		}
		last = err
	}
	return nil, last
}

// unchanged is a conflict if the Secret is not of a resource version any more.
func (s *AuthorityStore) unchanged(ctx context.Context, version string) error {
	secret, err := s.params.Clients.Core.CoreV1().Secrets(AuthorityNamespace).Get(ctx, AuthorityName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read Secret %s/%s: %w", AuthorityNamespace, AuthorityName, err)
	}
	if secret.ResourceVersion != version {
		return apierrors.NewConflict(corev1.Resource("secrets"), AuthorityName,
			fmt.Errorf("another replica has changed it: it is of version %s, not %s", secret.ResourceVersion, version))
	}
	return nil
}

// advance reads the authority, or makes it, and advances it if that is due. It
// returns the resource version of the Secret too.
func (s *AuthorityStore) advance(ctx context.Context) (*ca.Authority, string, error) {
	secrets := s.params.Clients.Core.CoreV1().Secrets(AuthorityNamespace)
	secret, err := secrets.Get(ctx, AuthorityName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return s.create(ctx)
	}
	if err != nil {
		return nil, "", fmt.Errorf("read Secret %s/%s: %w", AuthorityNamespace, AuthorityName, err)
	}
	authority, err := ca.Decode(secret.Data)
	if err != nil {
		return nil, "", fmt.Errorf("Secret %s/%s (delete it to make a new one): %w", AuthorityNamespace, AuthorityName, err)
	}
	next, err := authority.Advance(s.params.Now())
	if err != nil || next == authority {
		return authority, secret.ResourceVersion, err
	}
	// The new one is trusted before anybody can sign with it.
	if err := s.publish(ctx, next.Bundle()); err != nil {
		return nil, "", err
	}
	if secret.Data, err = next.Encode(); err != nil {
		return nil, "", err
	}
	if secret, err = secrets.Update(ctx, secret, metav1.UpdateOptions{}); err != nil {
		return nil, "", fmt.Errorf("write Secret %s/%s: %w", AuthorityNamespace, AuthorityName, err)
	}
	klog.FromContext(ctx).Info("The controllers' certificate authority was advanced", "secret", AuthorityName)
	return next, secret.ResourceVersion, nil
}

func (s *AuthorityStore) create(ctx context.Context) (*ca.Authority, string, error) {
	authority, err := ca.New(s.params.Now())
	if err != nil {
		return nil, "", err
	}
	data, err := authority.Encode()
	if err != nil {
		return nil, "", err
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: AuthorityNamespace, Name: AuthorityName}, Data: data}
	if secret, err = s.params.Clients.Core.CoreV1().Secrets(AuthorityNamespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return nil, "", fmt.Errorf("create Secret %s/%s: %w", AuthorityNamespace, AuthorityName, err)
	}
	klog.FromContext(ctx).Info("A certificate authority for the controllers was made", "secret", AuthorityName)
	return authority, secret.ResourceVersion, nil
}

// publish makes the ConfigMap say what to trust.
func (s *AuthorityStore) publish(ctx context.Context, bundle []byte) error {
	maps := s.params.Clients.Core.CoreV1().ConfigMaps(config.Namespace)
	object, err := maps.Get(ctx, AuthorityName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		object = &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: config.Namespace, Name: AuthorityName},
			Data:       map[string]string{BundleKey: string(bundle)},
		}
		_, err = maps.Create(ctx, object, metav1.CreateOptions{})
	case err == nil && object.Data[BundleKey] != string(bundle):
		object.Data = map[string]string{BundleKey: string(bundle)}
		_, err = maps.Update(ctx, object, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("publish ConfigMap %s/%s: %w", config.Namespace, AuthorityName, err)
	}
	return nil
}
