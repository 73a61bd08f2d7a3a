// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offloads are the receive offloads of a NIC that join packets of a
// connection into one larger than the MTU. A userspace switch that reads the
// NIC by packet(7) has to drop these.
type offloads struct {
	GRO bool `json:"gro"`
	LRO bool `json:"lro"`
}

// ethFlagLRO is ETH_FLAG_LRO of linux/ethtool.h.
const ethFlagLRO = 1 << 15

// readOffloads treats what a driver does not know as off.
func readOffloads(nic string) (offloads, error) {
	gro, err := ethtool(nic, unix.ETHTOOL_GGRO, 0)
	if err != nil {
		return offloads{}, err
	}
	flags, err := ethtool(nic, unix.ETHTOOL_GFLAGS, 0)
	if err != nil {
		return offloads{}, err
	}
	return offloads{GRO: gro != 0, LRO: flags&ethFlagLRO != 0}, nil
}

// writeOffloads changes what differs.
func writeOffloads(nic string, want offloads) error {
	have, err := readOffloads(nic)
	if err != nil {
		return err
	}
	if have.GRO != want.GRO {
		if _, err := ethtool(nic, unix.ETHTOOL_SGRO, uint32(b2i(want.GRO))); err != nil {
			return err
		}
	}
	if have.LRO == want.LRO {
		return nil
	}
	flags, err := ethtool(nic, unix.ETHTOOL_GFLAGS, 0)
	if err != nil {
		return err
	}
	_, err = ethtool(nic, unix.ETHTOOL_SFLAGS, flags^ethFlagLRO)
	return err
}

// ethtool makes one request of the kind that takes and gives one value
// (struct ethtool_value).
func ethtool(nic string, cmd, data uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("ethtool %s: %w", nic, err)
	}
	defer unix.Close(fd)
	if len(nic) >= unix.IFNAMSIZ {
		return 0, fmt.Errorf("ethtool %s: %w", nic, unix.EINVAL)
	}
	value := &struct{ cmd, data uint32 }{cmd, data}
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(value)}
	copy(req.name[:], nic)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	runtime.KeepAlive(value)
	if errno == unix.EOPNOTSUPP {
		return 0, nil
	}
	if errno != 0 {
		return 0, fmt.Errorf("ethtool %s: request %#x: %w", nic, cmd, errno)
	}
	return value.data, nil
}
