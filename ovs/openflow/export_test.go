// SPDX-License-Identifier: Apache-2.0

package openflow

// Everything is for the tests in package openflow_test, which may import
// ovstest.
var Everything = everything
