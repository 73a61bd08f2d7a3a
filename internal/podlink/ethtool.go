// SPDX-License-Identifier: Apache-2.0

package podlink

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ethtoolValue is struct ethtool_value of linux/ethtool.h.
type ethtoolValue struct {
	cmd  uint32
	data uint32
}

// ifreqData is struct ifreq of linux/if.h with its ifr_data member; the kernel
// copies the size of the whole union.
type ifreqData struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// setTxChecksum turns TX checksum offload of an interface of the thread's
// namespace off (0) or on (1).
func setTxChecksum(dev string, value uint32) error {
	return ethtool(dev, &ethtoolValue{cmd: unix.ETHTOOL_STXCSUM, data: value})
}

// txChecksum reads TX checksum offload of an interface of the thread's namespace.
func txChecksum(dev string) (uint32, error) {
	v := ethtoolValue{cmd: unix.ETHTOOL_GTXCSUM}
	err := ethtool(dev, &v)
	return v.data, err
}

func ethtool(dev string, value *ethtoolValue) (err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	req := ifreqData{data: unsafe.Pointer(value)}
	copy(req.name[:unix.IFNAMSIZ-1], dev)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}
