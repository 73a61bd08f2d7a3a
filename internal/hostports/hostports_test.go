// SPDX-License-Identifier: Apache-2.0

package hostports

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	headings = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	tail     = " 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0\n"
	sctpHead = " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n"
)

// word is an address as the files have it on this machine.
func word(s string) string {
	b := netip.MustParseAddr(s).AsSlice()
	out := ""
	for i := 0; i < len(b); i += 4 {
		out += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(b[i:]))
	}
	return out
}

func inet(local, state string) string {
	ap := netip.MustParseAddrPort(local)
	return fmt.Sprintf("   0: %s:%04X %s:0000 %s%s", word(ap.Addr().String()), ap.Port(), word("0.0.0.0"), state, tail)
}

func all(uint8, uint16) bool { return true }

func text(sockets []Socket) []string {
	var out []string
	for _, s := range sockets {
		out = append(out, fmt.Sprintf("%d %v", s.Protocol, s.Local))
	}
	return out
}

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		meant func(uint8, uint16) bool
		want  []string
		err   string
	}{
		{name: "no files"},
		{name: "headings only", files: map[string]string{"tcp": headings, "udp": headings, "sctp/eps": sctpHead}},
		{
			name: "what listens",
			files: map[string]string{
				"tcp":  headings + inet("127.0.0.1:30443", "0A") + inet("0.0.0.0:30080", "0A") + inet("172.30.0.11:30081", "01"),
				"tcp6": headings + inet("[::]:30080", "0A") + inet("[::ffff:172.30.0.11]:30082", "0A") + inet("[fd30::11]:30081", "06"),
				"udp":  headings + inet("10.0.0.1:30083", "01") + inet("172.30.0.11:30053", "07"),
				"udp6": headings + inet("[fd30::11]:30053", "07"),
				"sctp/eps": sctpHead + "ffff 7777 2   10  40   30009       0 12345 0.0.0.0\n" +
					"ffff 7777 2   7   41   30010       0 12345 0.0.0.0\n" +
					"ffff 7777 2   10  42   30011       0 12345 172.30.0.11 fd30:0000:0000:0000:0000:0000:0000:0011\n",
			},
			want: []string{
				"6 0.0.0.0:30080", "6 [::]:30080", "6 172.30.0.11:30082", "6 127.0.0.1:30443",
				"17 172.30.0.11:30053", "17 [fd30::11]:30053",
				"132 0.0.0.0:30009", "132 172.30.0.11:30011", "132 [fd30::11]:30011",
			},
		},
		{
			name:  "only what is meant",
			files: map[string]string{"tcp": headings + inet("0.0.0.0:30080", "0A") + inet("0.0.0.0:22", "0A"), "udp": headings + inet("0.0.0.0:30080", "07")},
			meant: func(protocol uint8, port uint16) bool { return protocol == unix.IPPROTO_UDP && port == 30080 },
			want:  []string{"17 0.0.0.0:30080"},
		},
		{
			name:  "one file is broken",
			files: map[string]string{"tcp": headings + "   0: 0000:0016 0000:0000 0A\n", "udp": headings + inet("0.0.0.0:53", "07")},
			want:  []string{"17 0.0.0.0:53"}, err: `tcp: line "   0: 0000:0016 0000:0000 0A" is not understood`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range tt.files {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			meant := tt.meant
			if meant == nil {
				meant = all
			}
			got, err := Find(Params{Dir: dir}, meant)
			if d := cmp.Diff(tt.want, text(got)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// TestFindOnThisMachine opens sockets and looks for them, among connections.
func TestFindOnThisMachine(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	tcp, udp := netip.MustParseAddrPort(l.Addr().String()), netip.MustParseAddrPort(u.LocalAddr().String())
	client := netip.MustParseAddrPort(c.LocalAddr().String())
	got, err := Find(Params{}, func(protocol uint8, port uint16) bool {
		return protocol == unix.IPPROTO_TCP && (port == tcp.Port() || port == client.Port()) || protocol == unix.IPPROTO_UDP && port == udp.Port()
	})
	if d := cmp.Diff([]string{"6 " + tcp.String(), "17 " + udp.String()}, text(got)); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		inet("127.0.0.1:30443", "0A"), inet("[fd30::11]:30053", "07"), "ffff 7777 2   10  40   30009       0 12345 0.0.0.0",
		"0: :0016 0 0A", "0: 00000000 0 0A", "a b c 10 d 99999 e f", "a b c 10 d 9 e f 1.2.3", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (line, bool){parseInet, parseSCTP} {
			l, ok := parse(s)
			for _, a := range l.addrs {
				if ok && (!a.IsValid() || a.Is4In6()) {
					t.Errorf("%q: address %v", s, a)
				}
			}
		}
	})
}
