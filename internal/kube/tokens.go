// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/internal/config"
	"github.com/waymark-net/waymark/policy/stream"
)

const (
	// agentUser is the ServiceAccount of the agents.
	agentUser = "system:serviceaccount:" + config.Namespace + ":waymark-agent"
	// nodeExtra is where the API server says to which node a token's Pod is bound (KEP-4193).
	nodeExtra = "authentication.kubernetes.io/node-name"
	// tokenCached is how long an answer counts; it bounds how long a token of a
	// Pod that is gone opens a stream.
	tokenCached = 10 * time.Second
	maxTokens   = 10_000
)

// TokenParams describe a TokenReviewer.
type TokenParams struct {
	Clients *Clients
	// Now is the clock of the cache.
	Now func() time.Time
}

// TokenReviewer asks the API server whose token one is. Its methods may be
// called from any goroutine.
type TokenReviewer struct {
	params TokenParams

	mu    sync.Mutex
	cache map[[sha256.Size]byte]tokenAnswer
}

type tokenAnswer struct {
	node  string
	until time.Time
}

// NewTokenReviewer returns a TokenReviewer.
func NewTokenReviewer(params TokenParams) *TokenReviewer {
	return &TokenReviewer{params: params, cache: map[[sha256.Size]byte]tokenAnswer{}}
}

// Authenticate returns the node that an agent's token is bound to. An error
// that wraps stream.ErrUnauthenticated says that the token is to blame; only
// good tokens are remembered.
func (r *TokenReviewer) Authenticate(ctx context.Context, token string) (string, error) {
	key := sha256.Sum256([]byte(token))
	now := r.params.Now()
	r.mu.Lock()
	known := r.cache[key]
	r.mu.Unlock()
	if now.Before(known.until) {
		return known.node, nil
	}
	review, err := r.params.Clients.Core.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{stream.Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("review the token: %w", err)
	}
	node, err := judgeToken(&review.Status)
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.cache) >= maxTokens {
		clear(r.cache)
	}
	r.cache[key] = tokenAnswer{node: node, until: now.Add(tokenCached)}
	return node, nil
}

func judgeToken(s *authenticationv1.TokenReviewStatus) (string, error) {
	nodes := s.User.Extra[nodeExtra]
	switch {
	case !s.Authenticated:
		return "", fmt.Errorf("%w: the token is not valid for audience %s: %s", stream.ErrUnauthenticated, stream.Audience, s.Error)
	case !slices.Contains(s.Audiences, stream.Audience):
		// An API server that knows no audiences leaves them out.
		return "", fmt.Errorf("%w: the token is not for audience %s", stream.ErrUnauthenticated, stream.Audience)
	case s.User.Username != agentUser:
		return "", fmt.Errorf("%w: the token is that of %s, must be that of %s", stream.ErrUnauthenticated, s.User.Username, agentUser)
	case len(nodes) != 1 || nodes[0] == "":
		return "", fmt.Errorf("%w: the token is not bound to a Pod on a node", stream.ErrUnauthenticated)
	}
	return nodes[0], nil
}
