// SPDX-License-Identifier: Apache-2.0

//go:build integration

package flows

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
	"github.com/waymark-net/waymark/internal/testnode"
	"github.com/waymark-net/waymark/ovs/pipeline"
	"github.com/waymark-net/waymark/ovs/vsdb"
	"github.com/waymark-net/waymark/policy"
)

const (
	testMTU  = 1400
	echoPort = 8080
)

// TestTraffic sends real packets through a node whose policies change.
func TestTraffic(t *testing.T) { testnet.Run(t, traffic) }

// site is a node with a server and two clients.
type site struct {
	*testnode.Node
	engine              *Engine
	server, left, right *testnode.Pod
}

func traffic(t *testing.T, _ *testnet.Namespace) {
	ns, wire := testnet.New(t, "node"), testnet.New(t, "wire")
	mac := net.HardwareAddr{2, 0, 0, 0, 1, 1}
	testnet.Veth(t, testnet.End{NS: ns, Name: "eth0", MAC: mac.String()}, testnet.End{NS: wire, Name: "eth0"})
	s := &site{engine: New(Params{}), Node: testnode.New(t, ns, 1, vsdb.Layout{
		Datapath: vsdb.DatapathNetdev, GatewayMAC: pipeline.GatewayMAC(), MTU: testMTU, Uplink: &vsdb.Uplink{Name: "eth0", MAC: mac},
	})}
	s.SetUp(t)
	s.server, s.left, s.right = s.AddPod(t, testMTU), s.AddPod(t, testMTU), s.AddPod(t, testMTU)
	t.Run("hostPort", s.hostPort)
	for _, family := range []int{4, 6} {
		t.Run(fmt.Sprintf("IPv%d", family), func(t *testing.T) { s.family(t, family) })
	}
}

// apply changes the policies. The server is isolated in both directions; what is
// in group 1 reaches its ports 8080 to 8081, TCP and UDP.
func (s *site) apply(t *testing.T, c Change) {
	t.Helper()
	s.Patch(t, s.engine.Apply(c).Changes...)
}

func (s *site) isolate(t *testing.T, allowed ...netip.Addr) {
	pod, identity := known(0, 1)
	p := accept("server", subject(0), func(r *policy.Rule) {
		from(1)(r)
		onPort(r, policy.TCP, echoPort, echoPort+1)
		onPort(r, policy.UDP, echoPort, echoPort+1)
	})
	p.Isolates[policy.Egress] = true
	local := podAt(0).local
	local.Port = s.server.Port
	s.apply(t, Change{
		Update: &policy.Update{
			Policies: []*policy.Policy{p}, Pods: []policy.Pod{pod}, Identities: []*policy.Identity{identity},
			Groups: []policy.GroupUpdate{{ID: group(1), Whole: true, Added: allowed}},
		},
		Attached: []LocalPod{local},
	})
}

func (s *site) family(t *testing.T, family int) {
	server, left, right := s.server.Addr[family], s.left.Addr[family], s.right.Addr[family]
	listener, echoes := s.serve(t, s.server, server)
	defer func() { _ = listener.Close() }()
	a := s.dial(t, s.left.NS, netip.AddrPortFrom(server, echoPort))
	far := <-echoes
	b := s.dial(t, s.right.NS, netip.AddrPortFrom(server, echoPort))
	<-echoes
	a.mustEcho(t, "without policies")
	b.mustEcho(t, "without policies")

	s.isolate(t, left, right)
	a.mustEcho(t, "allowed by a policy, the server may send nothing of its own")
	b.mustEcho(t, "allowed by a policy, the server may send nothing of its own")
	if err := s.left.NS.Try(fmt.Sprintf("ping -n -c1 -W1 %s", server)); err == nil {
		t.Error("a ping passes that no policy allows")
	}
	if err := s.server.NS.Try(fmt.Sprintf("ping -n -c1 -W1 %s", left)); err == nil {
		t.Error("a ping passes from a Pod that may send nothing")
	}
	s.NS.Exec(t, fmt.Sprintf("ping -n -c1 -W5 %s", server))
	s.dial(t, s.NS, netip.AddrPortFrom(server, echoPort)).mustEcho(t, "the node probes")
	<-echoes
	s.datagrams(t, server)

	// The answer comes first after the tracker has lost its table.
	s.AddFlows(t, pipeline.Resume(s.GatewayParams()))
	s.Appctl(t, "dpctl/flush-conntrack")
	if _, err := fmt.Fprintln(far, "unasked"); err != nil {
		t.Fatal(err)
	}
	a.mustRead(t, "unasked", "the tracker was flushed, the server sends first")
	a.mustEcho(t, "the tracker was flushed")
	b.mustEcho(t, "the tracker was flushed")

	began := time.Now()
	s.apply(t, Change{Update: &policy.Update{Groups: []policy.GroupUpdate{{ID: group(1), Removed: []netip.Addr{right}}}}})
	for b.echo() == nil {
		if time.Since(began) > time.Second {
			t.Fatal("a second after it was denied the connection still works")
		}
	}
	a.mustEcho(t, "another connection was denied")
	s.apply(t, Change{Update: &policy.Update{GonePolicies: []policy.Key{{Namespace: "ns", Name: "server"}}}})
}

// datagrams: fragments are judged by the port that only the first one has, and
// the error that a closed port causes is related.
func (s *site) datagrams(t *testing.T, server netip.Addr) {
	t.Helper()
	var socket net.PacketConn
	s.within(t, s.server.NS, func() (err error) {
		socket, err = net.ListenPacket("udp", netip.AddrPortFrom(server, echoPort).String())
		return err
	})
	defer func() { _ = socket.Close() }()
	send := func(port uint16, n int) net.Conn {
		var c net.Conn
		s.within(t, s.left.NS, func() (err error) {
			c, err = net.Dial("udp", netip.AddrPortFrom(server, port).String())
			return err
		})
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	large := send(echoPort, 4000)
	defer func() { _ = large.Close() }()
	_ = socket.SetReadDeadline(time.Now().Add(5 * time.Second)) // fails on closed sockets only
	buf := make([]byte, 5000)
	for _, when := range []string{"first", "later"} {
		n, from, err := socket.ReadFrom(buf)
		if n != 4000 || err != nil {
			t.Fatalf("%s datagram of 4000 bytes: got %d bytes, %v", when, n, err)
		}
		if _, err := socket.WriteTo(buf[:n], from); err != nil {
			t.Fatal(err)
		}
		_ = large.SetReadDeadline(time.Now().Add(5 * time.Second)) // fails on closed sockets only
		if n, err := large.Read(buf); n != 4000 || err != nil {
			t.Fatalf("answer to the %s datagram: got %d bytes, %v", when, n, err)
		}
		if _, err := large.Write(buf[:n]); err != nil {
			t.Fatal(err)
		}
	}
	closed := send(echoPort+1, 10)
	defer func() { _ = closed.Close() }()
	_ = closed.SetReadDeadline(time.Now().Add(5 * time.Second)) // fails on closed sockets only
	if _, err := closed.Read(buf); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("no error from a closed port: %v", err)
	}
}

// hostPort: a Pod connects to a port of its node that the kernel maps to another
// Pod. The policy sees who connects, and the answer comes from the node.
func (s *site) hostPort(t *testing.T) {
	for _, line := range []string{
		"nft add table ip hostport",
		"nft add chain ip hostport pre { type nat hook prerouting priority -100 ; }",
		fmt.Sprintf("nft add rule ip hostport pre ip daddr %s tcp dport 9090 dnat to %s:%d", s.Addr4(), s.server.Addr[4], echoPort),
	} {
		s.NS.Exec(t, line)
	}
	listener, echoes := s.serve(t, s.server, s.server.Addr[4])
	defer func() { _ = listener.Close() }()
	s.isolate(t, s.left.Addr[4])
	target := netip.AddrPortFrom(s.Addr4(), 9090)
	c := s.dial(t, s.left.NS, target)
	<-echoes
	c.mustEcho(t, "by a hostPort")
	err := s.right.NS.Do(func() error {
		c, err := net.DialTimeout("tcp", target.String(), time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
	if err == nil {
		t.Error("a Pod that may not connect does so by a hostPort")
	}
	s.apply(t, Change{Update: &policy.Update{GonePolicies: []policy.Key{{Namespace: "ns", Name: "server"}}}})
}

func (s *site) within(t *testing.T, ns *testnet.Namespace, do func() error) {
	t.Helper()
	if err := ns.Do(do); err != nil {
		t.Fatal(err)
	}
}

// serve echoes lines of every connection, which it also hands out.
func (s *site) serve(t *testing.T, pod *testnode.Pod, a netip.Addr) (net.Listener, <-chan net.Conn) {
	t.Helper()
	var listener net.Listener
	s.within(t, pod.NS, func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(a, echoPort).String())
		return err
	})
	conns := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			conns <- c
			go func() {
				defer func() { _ = c.Close() }()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					if _, err := fmt.Fprintln(c, lines.Text()); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener, conns
}

// client is one end of a connection to the server.
type client struct {
	net.Conn
	lines *bufio.Reader
	n     int
}

func (s *site) dial(t *testing.T, ns *testnet.Namespace, to netip.AddrPort) *client {
	t.Helper()
	c := &client{}
	s.within(t, ns, func() (err error) {
		c.Conn, err = net.DialTimeout("tcp", to.String(), 5*time.Second)
		return err
	})
	c.lines = bufio.NewReader(c)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (c *client) read(within time.Duration) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	line, err := c.lines.ReadString('\n')
	return strings.TrimSpace(line), err
}

// echo sends a line and waits a little for it to come back.
func (c *client) echo() error {
	c.n++
	if _, err := fmt.Fprintf(c, "line %d\n", c.n); err != nil {
		return err
	}
	_, err := c.read(300 * time.Millisecond)
	return err
}

func (c *client) mustEcho(t *testing.T, when string) {
	t.Helper()
	c.n++
	line := fmt.Sprintf("line %d", c.n)
	if _, err := fmt.Fprintln(c, line); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	c.mustRead(t, line, when)
}

func (c *client) mustRead(t *testing.T, want, when string) {
	t.Helper()
	if got, err := c.read(10 * time.Second); got != want || err != nil {
		t.Fatalf("%s: got %q, %v; want %q", when, got, err, want)
	}
}
