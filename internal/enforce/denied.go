// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/time/rate"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/answer"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/policy"
)

// DeniedMeter limits the packets that the switch sends to Run.
func DeniedMeter() flow.Meter { return flow.Meter{ID: 1, Rate: 100, Burst: 100} }

const (
	// logRate is how many denied packets are logged in a second at most, and how
	// many failures to end a connection.
	logRate = 10
	// injectTimeout bounds how long a switch that does not answer holds up Run.
	injectTimeout = 5 * time.Second
)

// Stats count what Run did since the start.
type Stats struct {
	// Logged and NotLogged are the denied packets that the switch reported.
	Logged, NotLogged uint64
	// Cut are the segments of TCP connections of which both ends were told that
	// the connection is over.
	Cut uint64
}

type stats struct{ logged, notLogged, cut atomic.Uint64 }

// Stats returns what Run did since the start.
func (e *Enforcer) Stats() Stats {
	return Stats{Logged: e.stats.logged.Load(), NotLogged: e.stats.notLogged.Load(), Cut: e.stats.cut.Load()}
}

// Run handles denied packets until ctx ends.
func (e *Enforcer) Run(ctx context.Context, packets <-chan openflow.PacketIn) error {
	limit, errorLimit := rate.NewLimiter(logRate, logRate), rate.NewLimiter(logRate, logRate)
	suppressed := 0
	for {
		var d openflow.PacketIn
		select {
		case d = <-packets:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		switch wanted := e.current().LogDenied; {
		case wanted && limit.Allow():
			e.log(ctx, d, suppressed)
			suppressed = 0
			e.stats.logged.Add(1)
		case wanted:
			suppressed++
			fallthrough
		default:
			e.stats.notLogged.Add(1)
		}
		if err := e.reset(ctx, d); err != nil && errorLimit.Allow() {
			klog.FromContext(ctx).Error(err, "Cannot end a denied connection")
		}
	}
}

// reset ends the TCP connection of a denied packet at both ends, if there is one.
func (e *Enforcer) reset(ctx context.Context, d openflow.PacketIn) error {
	if pipeline.ReadJudged(d.Metadata).CTState&flow.CTEstablished == 0 {
		return nil
	}
	var segment answer.Segment
	packet, err := answer.ParsePacket(d.Data)
	if err == nil {
		segment, err = packet.Segment()
	}
	if errors.Is(err, answer.ErrUnanswerable) || errors.Is(err, answer.ErrIsReset) || errors.Is(err, answer.ErrNotTCP) {
		return nil // other connections are reported when denied packets are logged
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, injectTimeout, errors.New("the switch does not answer"))
	defer cancel()
	var errs []error
	for _, make := range []func() ([]byte, error){segment.ToSender, segment.ToReceiver} {
		frame, err := make()
		if err == nil {
			err = e.params.Switch.Inject(ctx, flow.PortController, frame, pipeline.Forward())
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("connection from %s to %s: %w", segment.Src, segment.Dst, err)
	}
	e.stats.cut.Add(1)
	klog.FromContext(ctx).V(2).Info("Connection cut", "source", segment.Src, "destination", segment.Dst)
	return nil
}

// log says who sent what to whom and why it was denied.
func (e *Enforcer) log(ctx context.Context, d openflow.PacketIn, suppressed int) {
	packet := pipeline.ReadJudged(d.Metadata)
	pod, why := e.explain(packet, inPort(d.Metadata))
	klog.FromContext(ctx).Info("Denied", "pod", pod, "packet", describe(d.Data), "reason", why,
		"established", packet.CTState&flow.CTEstablished != 0, "notLogged", suppressed)
}

// inPort is where a packet came in, 0 if that is not known.
func inPort(metadata flow.Match) uint32 {
	m, ok := metadata.Get(flow.FieldInPort)
	if !ok || len(m.Value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(m.Value)
}

// explain names the Pod that was judged and what decided. Of the numbers of
// rules only that of the direction that was judged last counts: the other one
// may be of the rule that accepted the packet at its other end.
func (e *Enforcer) explain(p pipeline.Judged, inPort uint32) (pod, why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	pod = fmt.Sprintf("the Pod at port %d", p.Port)
	for _, s := range e.engine.Pods() {
		if s.Port != p.Port {
			continue
		}
		if pod = s.Pod.String(); s.Held {
			return pod, "its policies are not known yet"
		}
	}
	number, direction := p.IngressRule, policy.Ingress
	if sends := p.Port == inPort; sends != p.Answer {
		number, direction = p.EgressRule, policy.Egress
	}
	if rule, ok := e.engine.Rule(number); ok && rule.Action == policy.Deny {
		var names []string
		for _, ref := range rule.Refs {
			names = append(names, ref.String())
		}
		return pod, strings.Join(names, ", ")
	}
	return pod, fmt.Sprintf("no %s rule accepts it", strings.ToLower(direction.String()))
}

// describe is the addresses, protocol and ports of a frame.
func describe(frame []byte) string {
	packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	network := packet.NetworkLayer()
	if network == nil {
		return "not IP"
	}
	text := fmt.Sprintf("%s > %s", network.NetworkFlow().Src(), network.NetworkFlow().Dst())
	if t := packet.TransportLayer(); t != nil {
		return fmt.Sprintf("%s %s %s > %s", text, t.LayerType(), t.TransportFlow().Src(), t.TransportFlow().Dst())
	}
	all := packet.Layers()
	return fmt.Sprintf("%s %s", text, all[len(all)-1].LayerType())
}
