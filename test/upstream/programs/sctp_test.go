// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithoutServers(t *testing.T) {
	const head = "    spec:\n      containers:\n"
	const web = "        - name: web\n          image: i\n          env:\n          - name: HOST_IP\n            valueFrom: x\n"
	const sctp = "        - name: c-{{ index .HostNetworkPorts 6 }}\n          image: i\n          env:\n          - name: SERVE_SCTP_PORT_9\n            value: \"foo\"\n"
	for name, test := range map[string]struct{ in, want string }{
		"last":   {head + web + sctp + "---\n" + head + web, head + web + "---\n" + head + web},
		"first":  {head + sctp + web, head + web},
		"middle": {head + web + sctp + web + sctp, head + web + web},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := withoutServers(test.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := withoutServers(head + web); err == nil {
		t.Error("manifests that are of another kind: no error")
	}
}

func TestWithoutConnections(t *testing.T) {
	const source = "package p\n\nfunc PokeServer(t *testing.T, name, protocol, host string) {\n\ttry()\n}\n"
	got, err := withoutConnections(source)
	if err != nil {
		t.Fatal(err)
	}
	want := "string) {\n\tif protocol == \"sctp\" {\n\t\tt.Log(\"" + LeftOut + "\")\n\t\treturn\n\t}\n\ttry()\n}\n"
	if !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant it to end in\n%s", got, want)
	}
	for _, other := range []string{"package p\n", "\nfunc PokeServer(t *testing.T, x int) {\n}\n"} {
		if _, err := withoutConnections(other); err == nil {
			t.Errorf("%q: no error", other)
		}
	}
}
