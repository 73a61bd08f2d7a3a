// SPDX-License-Identifier: Apache-2.0

// Package naive says what becomes of a packet to a Service, straight from the
// words of the API (Service and EndpointSlice, KEP-1669, KEP-2086, KEP-2433,
// KEP-3015, KEP-4444): for each packet it looks through all Services. It is what
// tests hold the real thing against, and knows nothing of it.
//
// A [Cluster] is a value; nothing here changes it.
package naive
