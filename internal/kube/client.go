// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/gentype"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	policyclient "sigs.k8s.io/network-policy-api/pkg/client/clientset/versioned/typed/apis/v1alpha2"

	"github.com/waymark-net/waymark/api/v1alpha1"
)

// Reader lists and watches one kind of object.
type Reader[L runtime.Object] interface {
	List(ctx context.Context, opts metav1.ListOptions) (L, error)
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// PeerClient reads BGPPeers and writes their status.
type PeerClient interface {
	Reader[*v1alpha1.BGPPeerList]
	UpdateStatus(ctx context.Context, peer *v1alpha1.BGPPeer, opts metav1.UpdateOptions) (*v1alpha1.BGPPeer, error)
}

// SessionClient reads and writes BGPSessions.
type SessionClient interface {
	Reader[*v1alpha1.BGPSessionList]
	Create(ctx context.Context, session *v1alpha1.BGPSession, opts metav1.CreateOptions) (*v1alpha1.BGPSession, error)
	Update(ctx context.Context, session *v1alpha1.BGPSession, opts metav1.UpdateOptions) (*v1alpha1.BGPSession, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// PathClient reads and writes NodePaths.
type PathClient interface {
	Get(ctx context.Context, name string, opts metav1.GetOptions) (*v1alpha1.NodePaths, error)
	Create(ctx context.Context, paths *v1alpha1.NodePaths, opts metav1.CreateOptions) (*v1alpha1.NodePaths, error)
	Update(ctx context.Context, paths *v1alpha1.NodePaths, opts metav1.UpdateOptions) (*v1alpha1.NodePaths, error)
}

// RolloutClient reads and writes NetworkRollouts.
type RolloutClient interface {
	Reader[*v1alpha1.NetworkRolloutList]
	Create(ctx context.Context, rollout *v1alpha1.NetworkRollout, opts metav1.CreateOptions) (*v1alpha1.NetworkRollout, error)
	UpdateStatus(ctx context.Context, rollout *v1alpha1.NetworkRollout, opts metav1.UpdateOptions) (*v1alpha1.NetworkRollout, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// ClusterPolicyClient reads ClusterNetworkPolicies and writes their status.
type ClusterPolicyClient interface {
	Reader[*policyv1alpha2.ClusterNetworkPolicyList]
	UpdateStatus(ctx context.Context, p *policyv1alpha2.ClusterNetworkPolicy, opts metav1.UpdateOptions) (*policyv1alpha2.ClusterNetworkPolicy, error)
}

// DefinitionClient watches CustomResourceDefinitions.
type DefinitionClient interface {
	Watch(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error)
}

// Clients are the ways to the API server.
type Clients struct {
	Core           kubernetes.Interface
	Peers          PeerClient
	Advertisements Reader[*v1alpha1.BGPAdvertisementList]
	Sessions       SessionClient
	Paths          PathClient
	Rollouts       RolloutClient
	// ClusterPolicies are of an API that the cluster may not have.
	ClusterPolicies ClusterPolicyClient
	// Definitions say, by their metadata, which APIs the cluster has.
	Definitions DefinitionClient
}

// NewClients returns clients for the API server that config names.
func NewClients(config *rest.Config) (*Clients, error) {
	// Of its own kinds an API server has a form that is smaller, and far less work
	// to read, than JSON.
	compact := rest.CopyConfig(config)
	compact.ContentType = runtime.ContentTypeProtobuf
	compact.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	core, err := kubernetes.NewForConfig(compact)
	if err != nil {
		return nil, fmt.Errorf("make Kubernetes client: %w", err)
	}
	policies, err := policyclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client of %s: %w", policyv1alpha2.GroupName, err)
	}
	objects, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client of metadata: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register %s: %w", v1alpha1.GroupVersion, err)
	}
	own := rest.CopyConfig(config)
	own.GroupVersion = &v1alpha1.GroupVersion
	own.APIPath = "/apis"
	own.ContentType = runtime.ContentTypeJSON
	own.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	client, err := rest.RESTClientFor(own)
	if err != nil {
		return nil, fmt.Errorf("make client for %s: %w", v1alpha1.GroupVersion, err)
	}
	parameters := runtime.NewParameterCodec(scheme)
	return &Clients{
		Core:            core,
		ClusterPolicies: policies.ClusterNetworkPolicies(),
		Definitions: objects.Resource(schema.GroupVersionResource{
			Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions",
		}),
		Peers: gentype.NewClientWithList("bgppeers", client, parameters, "",
			func() *v1alpha1.BGPPeer { return &v1alpha1.BGPPeer{} },
			func() *v1alpha1.BGPPeerList { return &v1alpha1.BGPPeerList{} }),
		Advertisements: gentype.NewClientWithList("bgpadvertisements", client, parameters, "",
			func() *v1alpha1.BGPAdvertisement { return &v1alpha1.BGPAdvertisement{} },
			func() *v1alpha1.BGPAdvertisementList { return &v1alpha1.BGPAdvertisementList{} }),
		Sessions: gentype.NewClientWithList("bgpsessions", client, parameters, "",
			func() *v1alpha1.BGPSession { return &v1alpha1.BGPSession{} },
			func() *v1alpha1.BGPSessionList { return &v1alpha1.BGPSessionList{} }),
		Paths: gentype.NewClientWithList("nodepaths", client, parameters, "",
			func() *v1alpha1.NodePaths { return &v1alpha1.NodePaths{} },
			func() *v1alpha1.NodePathsList { return &v1alpha1.NodePathsList{} }),
		Rollouts: gentype.NewClientWithList("networkrollouts", client, parameters, "",
			func() *v1alpha1.NetworkRollout { return &v1alpha1.NetworkRollout{} },
			func() *v1alpha1.NetworkRolloutList { return &v1alpha1.NetworkRolloutList{} }),
	}, nil
}
