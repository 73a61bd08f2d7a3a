// SPDX-License-Identifier: Apache-2.0

package hostports

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Socket is one that receives what nobody is connected to.
type Socket struct {
	// Protocol is the IP number of TCP, UDP or SCTP.
	Protocol uint8
	// Local is where it is bound. The unspecified address of IPv6 stands for
	// both families unless the socket is of IPv6 only, which cannot be seen.
	Local netip.AddrPort
}

// defaultDir is where the kernel lists the sockets of the thread's network
// namespace.
const defaultDir = "/proc/thread-self/net"

// Params say where to look.
type Params struct {
	// Dir has the files of proc_net(5); "" is that of the calling thread.
	Dir string
}

// file is one of proc_net(5).
type file struct {
	name     string
	protocol uint8
	// state of those that are meant, as the file has it.
	state string
	// listenersFirst says that nothing is meant after the first other state.
	listenersFirst bool
	parse          func(line string) (line, bool)
}

var files = []file{
	// The kernel lists TCP sockets that listen before all connections, of which
	// there may be very many (tcp_seq_start).
	{"tcp", unix.IPPROTO_TCP, "0A", true, parseInet},
	{"tcp6", unix.IPPROTO_TCP, "0A", true, parseInet},
	{"udp", unix.IPPROTO_UDP, "07", false, parseInet},
	{"udp6", unix.IPPROTO_UDP, "07", false, parseInet},
	{"sctp/eps", unix.IPPROTO_SCTP, "10", false, parseSCTP},
}

// line is what counts of a line.
type line struct {
	state string
	port  uint16
	addrs []netip.Addr
}

// Find returns the sockets on ports that are meant, sorted: TCP and SCTP ones
// that listen, UDP ones that are not connected. It goes on past a file that
// cannot be read, and returns the errors joined.
func Find(p Params, meant func(protocol uint8, port uint16) bool) ([]Socket, error) {
	dir := cmp.Or(p.Dir, defaultDir)
	var out []Socket
	var errs []error
	for _, f := range files {
		found, err := f.find(dir, meant)
		if err != nil {
			errs = append(errs, fmt.Errorf("looking for sockets: %w", err))
		}
		out = append(out, found...)
	}
	slices.SortFunc(out, func(a, b Socket) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Local.Port(), b.Local.Port()), a.Local.Compare(b.Local))
	})
	return slices.Compact(out), errors.Join(errs...)
}

func (f file) find(dir string, meant func(uint8, uint16) bool) ([]Socket, error) {
	r, err := os.Open(filepath.Join(dir, f.name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the kernel has no IPv6, or no SCTP
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return f.read(r, meant)
}

func (f file) read(r io.Reader, meant func(uint8, uint16) bool) ([]Socket, error) {
	var out []Socket
	s := bufio.NewScanner(r)
	s.Scan() // headings
	for s.Scan() {
		l, ok := f.parse(s.Text())
		switch {
		case !ok:
			return out, fmt.Errorf("%s: line %q is not understood", f.name, s.Text())
		case l.state != f.state && f.listenersFirst:
			return out, nil
		case l.state != f.state || !meant(f.protocol, l.port):
			continue
		}
		for _, a := range l.addrs {
			out = append(out, Socket{Protocol: f.protocol, Local: netip.AddrPortFrom(a, l.port)})
		}
	}
	if err := s.Err(); err != nil {
		return out, fmt.Errorf("%s: %w", f.name, err)
	}
	return out, nil
}

// parseInet reads "number: address:port address:port state ...", in hexadecimal;
// the addresses are words in the byte order of the machine.
func parseInet(text string) (line, bool) {
	fields := strings.Fields(text)
	if len(fields) < 4 {
		return line{}, false
	}
	addrText, portText, ok := strings.Cut(fields[1], ":")
	b, err := hex.DecodeString(addrText)
	if !ok || err != nil || len(b) != 4 && len(b) != 16 {
		return line{}, false
	}
	port, err := strconv.ParseUint(portText, 16, 16)
	if err != nil {
		return line{}, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	addr, _ := netip.AddrFromSlice(b)
	return line{state: fields[3], port: uint16(port), addrs: []netip.Addr{addr.Unmap()}}, true
}

// parseSCTP reads "endpoint socket style state bucket port uid inode address...".
func parseSCTP(text string) (line, bool) {
	fields := strings.Fields(text)
	if len(fields) < 8 {
		return line{}, false
	}
	port, err := strconv.ParseUint(fields[5], 10, 16)
	if err != nil {
		return line{}, false
	}
	l := line{state: fields[3], port: uint16(port)}
	for _, f := range fields[8:] {
		a, err := netip.ParseAddr(f)
		if err != nil {
			return line{}, false
		}
		l.addrs = append(l.addrs, a.Unmap())
	}
	return l, true
}
