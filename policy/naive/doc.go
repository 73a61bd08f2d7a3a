// SPDX-License-Identifier: Apache-2.0

// Package naive says what network policy allows, straight from the words of the
// API's documentation (NetworkPolicy of networking.k8s.io/v1, ClusterNetworkPolicy
// of policy.networking.k8s.io/v1alpha2): for each packet it looks through all
// objects. It is what tests hold the real thing against, and knows nothing of it.
//
// A [Cluster] is a value; nothing here changes it.
package naive
