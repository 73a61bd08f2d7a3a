// SPDX-License-Identifier: Apache-2.0

// Package config owns the configuration document (ConfigMap waymark-config,
// key waymark.yaml): its form, its defaults and what is allowed in it.
//
// Load turns the text into one Config of parsed values, or refuses it whole
// and names every error with its line, field path, value and what is allowed.
// Nothing downstream parses a string again. The agent and the controller call
// it with each new version of the ConfigMap and keep the last good Config; a
// Config is never changed after it was returned, so any goroutine may read it.
package config
