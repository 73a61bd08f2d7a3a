// SPDX-License-Identifier: Apache-2.0

package image

// Recipes of the images that upstream test suites run in their Pods. None of
// these images can be pulled everywhere, so that they are made here, from the
// suites' own programs and Debian's, under the names by which suites ask for
// them.
const (
	// Agnhost has the programs agnhost and coredns, and what suites start by
	// shells: dig, curl, nc, ss.
	Agnhost = "agnhost"
	// Dnsutils has dig.
	Dnsutils = "dnsutils"
	// Busybox is Debian's.
	Busybox = "busybox"
	// Webserver is agnhost that serves on port 80, Pause agnhost that waits.
	Webserver = "webserver"
	Pause     = "pause"
	// OutOfWindow has the program out-of-window, a server that sends TCP segments
	// out of the window.
	OutOfWindow = "out-of-window"
)

var suiteRecipes = []string{Agnhost, Dnsutils, Busybox, Webserver, Pause, OutOfWindow}
