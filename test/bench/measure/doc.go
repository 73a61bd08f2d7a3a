// SPDX-License-Identifier: Apache-2.0

// Package measure has what benchmarks count with: quantiles of samples, the order in
// which something and its limit are measured and their ratios, the CPU time that the
// machine spends on something, and how long a denial takes.
package measure
