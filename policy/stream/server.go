// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/klog/v2"

	pb "github.com/waymark-net/waymark/api/policystream/v1"
	"github.com/waymark-net/waymark/policy/stream/wire"
)

// Audience is what an agent's token must be for.
const Audience = "waymark-controller"

// ServerName is the DNS name in every controller's certificate.
const ServerName = "waymark-controller.kube-system.svc"

// ErrUnauthenticated is what an Authenticator's error wraps when the token is
// to blame; any other error says that it could not be judged.
var ErrUnauthenticated = errors.New("not authenticated")

// Authenticator judges tokens. It is called from many goroutines.
type Authenticator interface {
	// Authenticate returns the node that a token is bound to.
	Authenticate(ctx context.Context, token string) (node string, err error)
}

const (
	// behindWait bounds how long an agent that is ahead of this replica waits
	// for it to catch up.
	behindWait = 10 * time.Second
	// haveWait bounds how long an agent may take to say what it has.
	haveWait = 30 * time.Second
	// maxHave bounds what an agent may say that it has, in bytes.
	maxHave = 64 << 20
	// chunkSize is about the size of a part of an update, in bytes.
	chunkSize = 1 << 20
	// maxMessage is the most that either end receives in one message.
	maxMessage = 64 << 20
	// The least and the most that a stream lives. An agent subscribes again with
	// a new token, at any replica; that sends differences only.
	minAge, maxAge = 40 * time.Minute, 60 * time.Minute
	// Silence of a peer before it is asked for a sign of life, and after it.
	aliveTime, aliveTimeout = 10 * time.Second, 5 * time.Second
	// endWait bounds how long a server that ends waits for its agents to leave.
	endWait = 2 * time.Second
)

// ServerParams describe a Server.
type ServerParams struct {
	Hub  *Hub
	Auth Authenticator
	// TLS is asked for a certificate at each handshake.
	TLS *tls.Config
	// Registerer gets the metrics.
	Registerer prometheus.Registerer
}

// Server serves a Hub's updates over gRPC.
type Server struct {
	pb.UnimplementedPolicyStreamServer
	params  ServerParams
	metrics *serverMetrics
	closing chan struct{}
}

// NewServer returns a Server that listens nowhere.
func NewServer(params ServerParams) *Server {
	return &Server{params: params, metrics: newServerMetrics(params.Registerer, params.Hub), closing: make(chan struct{})}
}

// Serve serves on a listener, which it closes, until ctx ends, and returns its
// cause. Agents are told to go elsewhere. It is called once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.params.TLS)),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxConcurrentStreams(4), // of one connection; an agent has one
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: aliveTime, Timeout: aliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: aliveTime / 2, PermitWithoutStream: true}),
	)
	pb.RegisterPolicyStreamServer(server, s)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve the policy stream on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	close(s.closing)
	hard := time.AfterFunc(endWait, server.Stop)
	defer hard.Stop()
	server.GracefulStop()
	<-failed
	return context.Cause(ctx)
}

// Subscribe serves one agent.
func (s *Server) Subscribe(stream grpc.BidiStreamingServer[pb.AgentMessage, pb.Chunk]) error {
	ctx := stream.Context()
	node, err := s.authenticate(ctx)
	if err != nil {
		return err
	}
	logger := klog.FromContext(ctx).WithValues("node", node)
	ctx = klog.NewContext(ctx, logger)
	received := receive(ctx, stream)
	w, err := s.receiveHave(ctx, node, received)
	if err != nil {
		return err
	}
	if err := s.catchUp(ctx, w); err != nil {
		return err
	}
	if w.len() == 0 {
		s.metrics.resyncs.Inc()
	}
	sub := s.params.Hub.subscribe(w)
	defer s.params.Hub.unsubscribe(sub)
	logger.Info("Agent subscribed", "has", w.len())
	err = s.send(ctx, stream, sub, received)
	logger.Info("Agent's subscription ended", "reason", err)
	return err
}

// refuse counts a subscription that is not served.
func (s *Server) refuse(ctx context.Context, reason string, code codes.Code, format string, args ...any) error {
	s.metrics.refused.WithLabelValues(reason).Inc()
	err := status.Errorf(code, format, args...)
	klog.FromContext(ctx).Info("Subscription refused", "reason", reason, "err", err)
	return err
}

// authenticate returns the node that the call's token is bound to.
func (s *Server) authenticate(ctx context.Context) (string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 || !strings.HasPrefix(values[0], "Bearer ") {
		return "", s.refuse(ctx, "unauthenticated", codes.Unauthenticated, "the call has no bearer token")
	}
	node, err := s.params.Auth.Authenticate(ctx, strings.TrimPrefix(values[0], "Bearer "))
	switch {
	case errors.Is(err, ErrUnauthenticated):
		return "", s.refuse(ctx, "unauthenticated", codes.Unauthenticated, "%v", err)
	case err != nil:
		return "", s.refuse(ctx, "not_judged", codes.Unavailable, "the token cannot be judged: %v", err)
	}
	return node, nil
}

// message is what came from an agent, or why nothing more comes.
type message struct {
	*pb.AgentMessage
	err error
}

// receive reads from a stream on a goroutine of its own until the stream ends.
func receive(ctx context.Context, stream grpc.BidiStreamingServer[pb.AgentMessage, pb.Chunk]) <-chan message {
	received := make(chan message)
	go func() {
		for {
			m, err := stream.Recv()
			select {
			case received <- message{m, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return received
}

// receiveHave reads what the agent has.
func (s *Server) receiveHave(ctx context.Context, node string, received <-chan message) (*have, error) {
	timer := time.NewTimer(haveWait)
	defer timer.Stop()
	w, size := newHave(), 0
	for {
		var m message
		select {
		case m = <-received:
		case <-s.closing:
			return nil, errEnding()
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		case <-timer.C:
			return nil, s.refuse(ctx, "malformed", codes.DeadlineExceeded, "did not say what it has within %s", haveWait)
		}
		if m.err != nil {
			return nil, m.err
		}
		if size += proto.Size(m.AgentMessage); size > maxHave {
			return nil, s.refuse(ctx, "malformed", codes.ResourceExhausted, "has more than %d bytes of names", maxHave)
		}
		if err := w.add(m.GetHave()); err != nil {
			return nil, s.refuse(ctx, "malformed", codes.InvalidArgument, "%v", err)
		}
		if w.node != node {
			return nil, s.refuse(ctx, "wrong_node", codes.PermissionDenied, "the agent of node %s may not subscribe to node %q", node, w.node)
		}
		if m.GetHave().GetLast() {
			return w, nil
		}
	}
}

// catchUp waits until this replica knows all that went into what the agent has.
func (s *Server) catchUp(ctx context.Context, w *have) error {
	if !s.params.Hub.Ready() {
		return s.refuse(ctx, "not_ready", codes.Unavailable, "the state of the cluster is not known yet")
	}
	timer := time.NewTimer(behindWait)
	defer timer.Stop()
	for {
		behind, progress := s.params.Hub.behind(w.position)
		if !behind {
			return nil
		}
		select {
		case <-progress:
		case <-s.closing:
			return errEnding()
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-timer.C:
			s.metrics.behind.Inc()
			klog.FromContext(ctx).Info("Serving an agent that is ahead of this replica", "position", w.position, "waited", behindWait)
			return nil
		}
	}
}

func errEnding() error { return status.Error(codes.Unavailable, "this controller ends") }

// send sends updates until the stream ends.
func (s *Server) send(ctx context.Context, stream grpc.BidiStreamingServer[pb.AgentMessage, pb.Chunk], sub *subscriber, received <-chan message) error {
	age := time.NewTimer(minAge + rand.N(maxAge-minAge))
	defer age.Stop()
	// Acknowledgements are read also while an update is on its way.
	ended := make(chan error, 1)
	go func() {
		for {
			select {
			case m := <-received:
				if m.err != nil {
					ended <- m.err
					return
				}
				s.params.Hub.acknowledge(sub, m.GetAck().GetRevision())
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-sub.wake:
			if err := s.sendUpdate(stream, sub); err != nil {
				return err
			}
		case err := <-ended:
			return err
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-sub.replaced:
			return status.Error(codes.Aborted, "the node subscribed again")
		case <-s.closing:
			return errEnding()
		case <-age.C:
			return status.Error(codes.Unavailable, "subscribe again, with a new token")
		}
	}
}

// sendUpdate sends what is pending, in parts. It blocks while the agent does
// not read.
func (s *Server) sendUpdate(stream grpc.BidiStreamingServer[pb.AgentMessage, pb.Chunk], sub *subscriber) error {
	u, revision, position := s.params.Hub.take(sub)
	s.metrics.updates.Inc()
	return wire.Split(u, chunkSize, func(part *pb.Update, last bool) error {
		chunk := &pb.Chunk{Part: part, Last: last}
		if last {
			chunk.Revision, chunk.Position = revision, position
		}
		s.metrics.bytes.Add(float64(proto.Size(chunk)))
		return stream.Send(chunk)
	})
}
