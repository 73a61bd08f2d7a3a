// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/waymark-net/waymark/api/v1alpha1"
)

// TestFormats: Kubernetes' own kinds come in the compact form; kinds of
// definitions, which have none, as JSON.
func TestFormats(t *testing.T) {
	asked := map[string]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked[r.URL.Path] = r.Header.Get("Accept")
		var err error
		if strings.HasSuffix(r.URL.Path, "/services") {
			w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
			err = protobuf.NewSerializer(scheme.Scheme, scheme.Scheme).Encode(&corev1.ServiceList{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceList"},
				Items:    []corev1.Service{{ObjectMeta: metav1.ObjectMeta{Name: "web"}}},
			}, w)
		} else {
			w.Header().Set("Content-Type", runtime.ContentTypeJSON)
			_, err = w.Write([]byte(`{"apiVersion":"` + v1alpha1.GroupVersion.String() + `","kind":"BGPPeerList","items":[{"metadata":{"name":"tor"}}]}`))
		}
		if err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	config := &rest.Config{Host: server.URL}
	clients, err := NewClients(config)
	if err != nil {
		t.Fatal(err)
	}
	services, err := clients.Core.CoreV1().Services("").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(services.Items) != 1 || services.Items[0].Name != "web" {
		t.Errorf("Services: %v, %v", services, err)
	}
	peers, err := clients.Peers.List(t.Context(), metav1.ListOptions{})
	if err != nil || len(peers.Items) != 1 || peers.Items[0].Name != "tor" {
		t.Errorf("BGPPeers: %v, %v", peers, err)
	}
	for path, want := range map[string]string{
		"/api/v1/services": "application/vnd.kubernetes.protobuf,application/json",
		"/apis/" + v1alpha1.GroupVersion.String() + "/bgppeers": "application/json",
	} {
		if got := asked[path]; !strings.HasPrefix(got, want) {
			t.Errorf("%s was asked for as %q, want %q", path, got, want)
		}
	}
	if config.ContentType != "" {
		t.Error("the caller's configuration was changed")
	}
}
