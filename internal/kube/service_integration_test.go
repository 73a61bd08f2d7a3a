// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kube_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/waymark-net/waymark/internal/kube"
	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/service"
)

// testServices: with its own rights the agent sees a Service and its slices of
// both families.
func testServices(t *testing.T, admin, agent *kube.Clients) {
	w, err := kube.NewServiceWatcher(kube.ServiceWatcherParams{Clients: agent, OnChange: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	policy := corev1.IPFamilyPolicyRequireDualStack
	created, err := admin.Core.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{IPFamilyPolicy: &policy, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	name, port := "", int32(8080)
	for family, address := range map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "10.10.1.2", discoveryv1.AddressTypeIPv6: "fd10::2"} {
		_, err := admin.Core.DiscoveryV1().EndpointSlices("default").Create(ctx, &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{GenerateName: "web-", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: family,
			Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	testnet.WaitFor(t, deadline, func() error {
		s, problems, found := w.Service(service.Key{Namespace: "default", Name: "web"})
		if !w.Synced() || !found || len(problems) > 0 || len(s.ClusterIPs) != 2 || len(s.Ports) != 1 || len(s.Ports[0].Endpoints) != 2 ||
			s.ClusterIPs[0].String() != created.Spec.ClusterIP {
			return fmt.Errorf("synced %t, found %t, problems %q, Service %+v", w.Synced(), found, problems, s)
		}
		return nil
	})
	other, err := admin.Core.CoreV1().Services(metav1.NamespacePublic).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "other"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	testServiceEvent(t, admin, agent, w, service.Key{Namespace: other.Namespace, Name: other.Name})
}

// testServiceEvent: with its own rights the agent says what is wrong with a
// Service, in the namespace of the Service.
func testServiceEvent(t *testing.T, admin, agent *kube.Clients, w *kube.ServiceWatcher, k service.Key) {
	t.Helper()
	testnet.WaitFor(t, deadline, func() error {
		if _, found := w.Object(k); !found {
			return fmt.Errorf("%s is not known", k)
		}
		return nil
	})
	recorder := kube.NewRecorder(kube.RecorderParams{Clients: agent, Component: "waymark-agent", NodeName: "n1"})
	events := kube.NewServiceEvents(kube.ServiceEventsParams{
		Recorder: recorder, Object: w.Object, NodeName: "n1", Snapshot: func() *kube.Snapshot { return &kube.Snapshot{} },
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = recorder.Run(ctx) })
	running.Go(func() { _ = events.Run(ctx) })
	events.Set(k, []kube.ServiceProblem{{Reason: kube.ReasonNodePortInUse, Message: "a program listens", Here: true}})
	testnet.WaitFor(t, deadline, func() error {
		list, err := admin.Core.CoreV1().Events(k.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=" + kube.ReasonNodePortInUse})
		if err != nil {
			return err
		}
		if len(list.Items) != 1 || list.Items[0].InvolvedObject.Name != k.Name || list.Items[0].InvolvedObject.UID == "" {
			return fmt.Errorf("Events of %s: %+v", k, list.Items)
		}
		return nil
	})
}
