// SPDX-License-Identifier: Apache-2.0

// Package measure has what benchmarks count with: quantiles of samples, and the
// CPU time that the machine spends on something.
package measure
