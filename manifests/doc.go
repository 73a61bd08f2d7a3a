// SPDX-License-Identifier: Apache-2.0

// Package manifests holds no program: the folder is kustomize's, and the tests
// here check that the rendered files are current and that a real API server
// accepts them. tools/generate.sh writes the rendered files.
package manifests
