// SPDX-License-Identifier: Apache-2.0

package random

import (
	"slices"

	"github.com/waymark-net/waymark/service"
)

// mostTries bounds how often Shrink asks whether steps fail.
const mostTries = 500

// Shrink returns steps that still fail, of which nothing can be left out, or not
// much: it gives up after a while.
func Shrink(steps []Step, fails func([]Step) bool) []Step {
	tries := 0
	for shorter := true; shorter; {
		shorter = false
		try := func(candidate []Step) bool {
			if tries++; tries > mostTries || !fails(candidate) {
				return false
			}
			steps, shorter = candidate, true
			return true
		}
		for at := 0; at < len(steps); {
			if !try(slices.Delete(slices.Clone(steps), at, at+1)) {
				at++
			}
		}
		for i := range steps {
			for at := 0; at < len(steps[i]); {
				candidate := slices.Clone(steps)
				candidate[i] = slices.Delete(slices.Clone(steps[i]), at, at+1)
				if !try(candidate) {
					at++
				}
			}
			for at := range steps[i] {
				if steps[i][at].Set == nil {
					continue
				}
				for _, s := range simpler(*steps[i][at].Set) {
					candidate := slices.Clone(steps)
					candidate[i] = slices.Clone(steps[i])
					candidate[i][at] = Change{Set: &s}
					if try(candidate) {
						break
					}
				}
			}
		}
	}
	return steps
}

// simpler returns what a Service could be with one thing less.
func simpler(s service.Service) []service.Service {
	var out []service.Service
	with := func(change func(*service.Service)) {
		n := s
		n.Ports = slices.Clone(s.Ports)
		change(&n)
		if !n.Equal(s) {
			out = append(out, n)
		}
	}
	for i, p := range s.Ports {
		with(func(n *service.Service) { n.Ports = without(n.Ports, i) })
		with(func(n *service.Service) { n.Ports[i].NodePort = 0 })
		half := len(p.Endpoints) / 2
		with(func(n *service.Service) { n.Ports[i].Endpoints = p.Endpoints[:half] })
		with(func(n *service.Service) { n.Ports[i].Endpoints = p.Endpoints[half:] })
		for j := range p.Endpoints {
			with(func(n *service.Service) { n.Ports[i].Endpoints = without(p.Endpoints, j) })
			with(func(n *service.Service) {
				n.Ports[i].Endpoints = slices.Clone(p.Endpoints)
				n.Ports[i].Endpoints[j].ForZones = nil
			})
			with(func(n *service.Service) {
				n.Ports[i].Endpoints = slices.Clone(p.Endpoints)
				n.Ports[i].Endpoints[j].ForNodes = nil
			})
		}
	}
	for i := range s.ClusterIPs {
		if len(s.ClusterIPs) == 1 {
			break // no Service is without
		}
		with(func(n *service.Service) { n.ClusterIPs = without(s.ClusterIPs, i) })
	}
	for i := range s.ExternalIPs {
		with(func(n *service.Service) { n.ExternalIPs = without(s.ExternalIPs, i) })
	}
	for i := range s.LoadBalancerIPs {
		with(func(n *service.Service) { n.LoadBalancerIPs = without(s.LoadBalancerIPs, i) })
	}
	for i := range s.SourceRanges {
		with(func(n *service.Service) { n.SourceRanges = without(s.SourceRanges, i) })
	}
	with(func(n *service.Service) { n.PublishNotReady = false })
	with(func(n *service.Service) { n.InternalLocal = false })
	with(func(n *service.Service) { n.ExternalLocal = false })
	with(func(n *service.Service) { n.HealthCheckPort = 0 })
	with(func(n *service.Service) { n.Affinity = 0 })
	return out
}

func without[T any](list []T, i int) []T { return slices.Delete(slices.Clone(list), i, i+1) }
