// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/time/rate"
	"k8s.io/klog/v2"

	"github.com/waymark-net/waymark/internal/tcpreset"
	"github.com/waymark-net/waymark/ovs/flow"
	"github.com/waymark-net/waymark/ovs/openflow"
	"github.com/waymark-net/waymark/ovs/pipeline"
)

// DeniedMeter limits the packets that the switch sends to Run.
func DeniedMeter() flow.Meter { return flow.Meter{ID: 1, Rate: 100, Burst: 100} }

// logRate is how many denied packets are logged in a second at most.
const logRate = 10

// Run handles denied packets until ctx ends.
func (e *Enforcer) Run(ctx context.Context, packets <-chan openflow.PacketIn) error {
	limit := rate.NewLimiter(logRate, logRate)
	suppressed := 0
	for {
		var d openflow.PacketIn
		select {
		case d = <-packets:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if e.params.Settings().LogDenied {
			if limit.Allow() {
				e.log(ctx, d, suppressed)
				suppressed = 0
			} else {
				suppressed++
			}
		}
		if err := e.reset(ctx, d); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot end a denied connection")
		}
	}
}

// reset ends the TCP connection of a denied packet at both ends, if there is one.
func (e *Enforcer) reset(ctx context.Context, d openflow.PacketIn) error {
	if pipeline.ReadJudged(d.Metadata).CTState&flow.CTEstablished == 0 {
		return nil
	}
	segment, err := tcpreset.Parse(d.Data)
	if errors.Is(err, tcpreset.ErrIsReset) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, make := range []func() ([]byte, error){segment.ToSender, segment.ToReceiver} {
		frame, err := make()
		if err == nil {
			err = e.params.Switch.Inject(ctx, flow.PortController, frame, pipeline.Forward())
		}
		errs = append(errs, err)
	}
	klog.FromContext(ctx).V(2).Info("Connection cut", "source", segment.Src, "destination", segment.Dst)
	return errors.Join(errs...)
}

// log says who sent what to whom and why it was denied.
func (e *Enforcer) log(ctx context.Context, d openflow.PacketIn, suppressed int) {
	packet := pipeline.ReadJudged(d.Metadata)
	pod, why := e.explain(packet)
	klog.FromContext(ctx).Info("Denied", "pod", pod, "packet", describe(d.Data), "reason", why,
		"established", packet.CTState&flow.CTEstablished != 0, "notLogged", suppressed)
}

// explain names the Pod that was judged and what decided.
func (e *Enforcer) explain(p pipeline.Judged) (pod, why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	pod = fmt.Sprintf("the Pod at port %d", p.Port)
	for _, i := range e.interfaces {
		if i.Port == p.Port {
			pod = i.Pod.String()
		}
	}
	for _, number := range []uint32{p.EgressRule, p.IngressRule} {
		rule, ok := e.engine.Rule(number)
		if !ok {
			continue
		}
		var names []string
		for _, ref := range rule.Refs {
			names = append(names, ref.String())
		}
		return pod, strings.Join(names, ", ")
	}
	return pod, "no rule accepts it"
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
