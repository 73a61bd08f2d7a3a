// SPDX-License-Identifier: Apache-2.0

package podlink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// sysctl is one value of one interface. Optional: a kernel without the file
// (no IPv6, an older version) has nothing that it would have to be told.
type sysctl struct {
	family   string // ipv4, ipv6
	dev      string
	key      string
	value    string
	optional bool
}

func (s sysctl) path() string {
	return filepath.Join("/proc/sys/net", s.family, "conf", s.dev, s.key)
}

// hostSysctls keep the kernel's IP stack from using the host's end.
func hostSysctls(link Link) []sysctl {
	dev := link.HostInterface
	out := []sysctl{{"ipv6", dev, "disable_ipv6", "1", true}}
	if link.Datapath == Netdev {
		// The switch reads frames beside the stack, not instead of it.
		out = append(out,
			sysctl{"ipv4", dev, "arp_ignore", "8", false},
			sysctl{"ipv4", dev, "rp_filter", "1", false},
			sysctl{"ipv4", dev, "drop_unicast_in_l2_multicast", "1", true},
			sysctl{"ipv4", dev, "forwarding", "0", false},
		)
	}
	return out
}

// podSysctls make IPv6 of the Pod's end predictable: a link-local address from
// the MAC (RFC 4291, appendix A), which the spoof guard allows, and no router
// solicitation or duplicate address detection, which it would drop.
func podSysctls(link Link) []sysctl {
	for _, a := range link.Addresses {
		if a.Addr.Is6() {
			return []sysctl{
				{"ipv6", link.IfName, "disable_ipv6", "0", false},
				{"ipv6", link.IfName, "addr_gen_mode", "0", false},
				{"ipv6", link.IfName, "accept_dad", "0", false},
				{"ipv6", link.IfName, "accept_ra", "0", false},
			}
		}
	}
	return nil
}

// writeSysctls writes in the namespace of the calling thread.
func writeSysctls(list []sysctl) error {
	for _, s := range list {
		err := os.WriteFile(s.path(), []byte(s.value), 0)
		if s.optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("setting sysctl: %w", err)
		}
	}
	return nil
}

// correctSysctls writes those that differ and returns them. It goes on past errors.
func correctSysctls(list []sysctl) ([]string, error) {
	var changed []string
	var errs []error
	for _, s := range list {
		have, err := os.ReadFile(s.path())
		switch {
		case s.optional && errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil && strings.TrimSpace(string(have)) == s.value:
			continue
		case err == nil:
			err = writeSysctls([]sysctl{s})
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		changed = append(changed, fmt.Sprintf("sysctl %s/%s=%s", s.dev, s.key, s.value))
	}
	return changed, errors.Join(errs...)
}
