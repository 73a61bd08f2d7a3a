// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/waymark-net/waymark/api/policystream/v1"
	"github.com/waymark-net/waymark/policy"
	"github.com/waymark-net/waymark/policy/stream/ca"
)

// subscribeRaw subscribes without a Client, which then has not read anything.
func subscribeRaw(t *testing.T, a *ca.Authority, r *replica, token, node string) grpc.BidiStreamingClient[pb.AgentMessage, pb.Chunk] {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+r.address.String(), grpc.WithTransportCredentials(credentials.NewTLS(clientTLS(t, a))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "authorization", token))
	t.Cleanup(func() { cancel(); _ = conn.Close() })
	stream, err := pb.NewPolicyStreamClient(conn).Subscribe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.AgentMessage{Message: &pb.AgentMessage_Have{Have: &pb.Have{Node: node, Last: true}}}); err != nil {
		t.Logf("send: %v", err)
	}
	return stream
}

func TestRefused(t *testing.T) {
	a := authority(t)
	r := startReplica(t, a)
	tests := []struct{ name, token, node, reason, code string }{
		{"wrong node", "Bearer token of n1", "n2", "wrong_node", "PermissionDenied"},
		{"no node", "Bearer token of n1", "", "wrong_node", "PermissionDenied"},
		{"bad token", "Bearer expired", "n1", "unauthenticated", "Unauthenticated"},
		{"no bearer", "token of n1", "n1", "unauthenticated", "Unauthenticated"},
		{"not judged", "Bearer api server away", "n1", "not_judged", "Unavailable"},
		{"not ready", "Bearer token of n1", "n1", "not_ready", "Unavailable"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := r.refused(test.reason)
			stream := subscribeRaw(t, a, r, test.token, test.node)
			_, err := stream.Recv()
			if err == nil || grpcCode(err) != test.code {
				t.Errorf("error %v, want %s", err, test.code)
			}
			if now := r.refused(test.reason); now != before+1 {
				t.Errorf("%s counted %f times", test.reason, now-before)
			}
		})
	}
	t.Run("malformed", func(t *testing.T) {
		stream := subscribeRaw(t, a, r, "Bearer token of n1", "n1")
		_ = stream.CloseSend()
		_, _ = stream.Recv()
		w := newHave()
		for name, m := range map[string]*pb.Have{
			"nothing": nil, "digest": {Groups: []*pb.IDDigest{{Id: make([]byte, 16)}}}, "ID": {Identities: []*pb.IDDigest{{}}},
			"key": {Policies: []*pb.PolicyDigest{{}}}, "Pod": {Pods: []*pb.PodDigest{{}}},
		} {
			if err := w.add(m); err == nil {
				t.Errorf("%s: accepted", name)
			}
		}
	})
}

// TestRotation changes the CA under a connected agent.
func TestRotation(t *testing.T) {
	foreign := authority(t)
	made := time.Now().Add(-ca.NextAfter - ca.SignsAfter)
	old, err := ca.New(made)
	if err != nil {
		t.Fatal(err)
	}
	next, err := old.Advance(made.Add(ca.NextAfter))
	if err != nil {
		t.Fatal(err)
	}
	signs, err := next.Advance(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r := startReplica(t, old)
	r.publish(map[string]*policy.Update{"n1": basic()})
	g := startAgent(t, "n1", t.TempDir(), old.Bundle(), r.address)
	eventually(t, "connection", g.connectedTo(r))
	since := g.Status().Since
	signedBy := func() string {
		c, err := r.certify.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		return string(c.Leaf.AuthorityKeyId)
	}
	before := signedBy()
	r.certify.Use(next)
	r.certify.Use(signs)
	if signedBy() == before {
		t.Error("the old CA signs on")
	}
	r.publish(map[string]*policy.Update{"n1": {Policies: []*policy.Policy{policyOf(1, 2)}}})
	converge(t, g, r, "n1")
	if s := g.Status(); !s.Connected || s.Since != since {
		t.Errorf("the agent lost its connection: %+v", s)
	}
	// The agent got the bundle when the new CA was published, and connects again.
	g.mu.Lock()
	g.bundle = next.Bundle()
	g.mu.Unlock()
	r.stop()
	r.listen(t, r.address.String())
	eventually(t, "connection with the new bundle", func() bool { return g.connectedTo(r)() && g.Status().Since != since })
	// A server that is not ours.
	r.stop()
	r.certify.Use(foreign)
	r.listen(t, r.address.String())
	eventually(t, "refusal", func() bool {
		err := g.Status().Err
		return err != nil && !g.Status().Connected && grpcCode(err) == "Unavailable"
	})
	r.publish(map[string]*policy.Update{"n1": {Policies: []*policy.Policy{policyOf(1, 3)}}})
	if n, _ := r.hub.counts(); n != 0 {
		t.Errorf("%d subscribers at a foreign server", n)
	}
}

func grpcCode(err error) string { return status.Code(err).String() }
