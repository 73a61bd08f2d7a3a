// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// LeftOut is what the changed conformance suite says in the log of a test for a
// connection over SCTP that it does not try.
const LeftOut = "left out: connection over SCTP"

// HasSCTP tells whether the kernel can speak SCTP (RFC 9260).
func HasSCTP() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}

// changes of files of network-policy-api for a kernel without SCTP.
var changes = map[string]func(string) (string, error){
	"conformance/base/manifests.yaml":        withoutServers,
	"conformance/utils/kubernetes/helper.go": withoutConnections,
}

// Marks in the manifests: how a container begins and goes on, and what one
// that serves SCTP has in its environment.
const (
	containerBegin  = "        - name: "
	containerInside = "          "
	servesSCTP      = "- name: SERVE_SCTP_PORT_"
)

// withoutServers removes the containers that serve SCTP from the manifests,
// which are templates and so no YAML yet.
func withoutServers(manifests string) (string, error) {
	var out, container strings.Builder
	removed := 0
	flush := func() {
		if strings.Contains(container.String(), servesSCTP) {
			removed++
		} else {
			out.WriteString(container.String())
		}
		container.Reset()
	}
	for line := range strings.Lines(manifests) {
		switch {
		case strings.HasPrefix(line, containerBegin):
			flush()
			container.WriteString(line)
		case container.Len() > 0 && strings.HasPrefix(line, containerInside):
			container.WriteString(line)
		default:
			flush()
			out.WriteString(line)
		}
	}
	flush()
	if removed == 0 {
		return "", errors.New("no container serves SCTP")
	}
	return out.String(), nil
}

// tries begins the function by which all tests try connections.
const tries = "\nfunc PokeServer(t *testing.T, "

// withoutConnections lets the function that tries a connection only say so
// when the connection is one over SCTP.
func withoutConnections(source string) (string, error) {
	begin := strings.Index(source, tries)
	if begin < 0 {
		return "", errors.New("no function that tries connections")
	}
	body := strings.Index(source[begin:], "{\n")
	if body < 0 || !strings.Contains(source[begin:begin+body], " protocol,") {
		return "", errors.New("the function that tries connections is of another kind")
	}
	at := begin + body + len("{\n")
	return source[:at] + "\tif protocol == \"sctp\" {\n\t\tt.Log(\"" + LeftOut + "\")\n\t\treturn\n\t}\n" + source[at:], nil
}
