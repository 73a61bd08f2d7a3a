// SPDX-License-Identifier: Apache-2.0

// Package e2e checks on the lab what a user sees: packets that arrive or do
// not, connections that live on, routes in the routers, conditions on objects.
// It is built with the tag e2e and run by `make e2e`, as root.
//
// Each top-level test owns one lab; its subtests share it and leave it as they
// found it. What a lab was like when a test failed is collected in a folder
// below out/e2e, and out/e2e/report.json has a row for every case.
package e2e
