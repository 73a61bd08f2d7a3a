// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"encoding/base64"
	"fmt"

	"github.com/waymark-net/waymark/test/lab/pki"
)

// Kubeconfig is a client configuration with everything in it.
func Kubeconfig(server string, ca []byte, client pki.Pair) []byte {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: lab
contexts:
- name: lab
  context: {cluster: lab, user: lab}
clusters:
- name: lab
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: lab
  user:
    client-certificate-data: %s
    client-key-data: %s
`, server, encode(ca), encode(client.Cert), encode(client.Key))
}
