// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"k8s.io/klog/v2"

	pb "github.com/waymark-net/waymark/api/policystream/v1"
	"github.com/waymark-net/waymark/policy/stream/ca"
	"github.com/waymark-net/waymark/policy/stream/wire"
)

const (
	// connectTimeout bounds connection and handshake.
	connectTimeout = 5 * time.Second
	// firstWait bounds the silence before the first update is there: a
	// controller that is behind waits for a while.
	firstWait = behindWait + 10*time.Second
)

// subscribe follows one controller until the stream ends, and returns why, and
// whether at least one update was enforced.
func (c *Client) subscribe(ctx context.Context, controller netip.AddrPort) (worked bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	conn, err := c.dial(controller)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	token, err := c.params.Token()
	if err != nil {
		return false, fmt.Errorf("read the token: %w", err)
	}
	stream, err := pb.NewPolicyStreamClient(conn).Subscribe(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token))
	if err != nil {
		return false, err
	}
	silence := time.AfterFunc(firstWait, func() { cancel(fmt.Errorf("no update within %s", firstWait)) })
	defer silence.Stop()
	for _, m := range c.what().messages() {
		if err := stream.Send(&pb.AgentMessage{Message: &pb.AgentMessage_Have{Have: m}}); err != nil {
			break // Recv says why
		}
	}
	var update wire.Assembler
	for {
		chunk, err := stream.Recv()
		if err != nil {
			return worked, reason(ctx, err)
		}
		if err := update.Add(chunk.GetPart()); err != nil {
			return worked, err
		}
		if !chunk.GetLast() {
			if !worked {
				silence.Reset(firstWait)
			}
			continue
		}
		silence.Stop()
		u, problems := update.Update()
		update = wire.Assembler{}
		if err := c.apply(ctx, u, problems, chunk.GetPosition()); err != nil {
			return worked, err
		}
		ack := &pb.AgentMessage{Message: &pb.AgentMessage_Ack{Ack: &pb.Ack{Revision: chunk.GetRevision()}}}
		if err := stream.Send(ack); err != nil {
			continue // Recv says why
		}
		if !worked {
			worked = true
			c.set(func(s *Status) { s.Connected, s.Since, s.Controller, s.Err = true, c.params.Now(), controller, nil })
			klog.FromContext(ctx).Info("Subscribed", "controller", controller, "revision", chunk.GetRevision())
		}
	}
}

// reason prefers why a stream was given up over that it was.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// dial makes a connection for one stream, which connects when it is used.
func (c *Client) dial(controller netip.AddrPort) (*grpc.ClientConn, error) {
	bundle, err := c.params.Bundle()
	if err != nil {
		return nil, fmt.Errorf("read the controllers' CA: %w", err)
	}
	config, err := ca.ClientTLS(bundle, ServerName, c.params.Now)
	if err != nil {
		return nil, err
	}
	return grpc.NewClient("passthrough:///"+controller.String(),
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: aliveTime, Timeout: aliveTimeout, PermitWithoutStream: true}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
	)
}
