// SPDX-License-Identifier: Apache-2.0

// Package handmade writes archives of small images without any tool, for tests
// of what runs images. Its functions are pure but for the file they write.
package handmade
