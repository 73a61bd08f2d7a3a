// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/policy"
)

// podReadTimeout bounds one question about a Pod.
const podReadTimeout = 3 * time.Second

// PodReader reads single Pods.
type PodReader struct{ clients *Clients }

// NewPodReader returns a PodReader.
func NewPodReader(clients *Clients) *PodReader { return &PodReader{clients} }

// Pod returns what policies need of a Pod.
func (r *PodReader) Pod(ctx context.Context, key policy.PodKey) (policy.PodIntent, error) {
	ctx, cancel := context.WithTimeout(ctx, podReadTimeout)
	defer cancel()
	pod, err := r.clients.Core.CoreV1().Pods(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if err != nil {
		return policy.PodIntent{}, fmt.Errorf("read Pod %s: %w", key, err)
	}
	return PolicyPod(pod), nil
}
