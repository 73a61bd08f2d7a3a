// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// Hello is what a server says first: the TCP echo as a line of JSON before it
// echoes, the UDP echo as such a line before the datagram, HTTP at /.
type Hello struct {
	Host   string         `json:"host"`
	Client netip.AddrPort `json:"client"` // who asks, as the server sees it
	Server netip.AddrPort `json:"server"` // which of its addresses was asked
}

// Handler serves one TCP connection, which the caller closes after it.
type Handler func(ctx context.Context, conn net.Conn) error

// TCP accepts connections on a port of all addresses until ctx ends, and ends
// them then.
func TCP(ctx context.Context, port uint16, handle Handler) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	return accept(ctx, listener, handle)
}

func accept(ctx context.Context, listener net.Listener, handle Handler) error {
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	var group sync.WaitGroup
	defer group.Wait()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			// Out of descriptors or memory: it passes.
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		group.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			if err := handle(ctx, conn); err != nil && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", conn.RemoteAddr(), err)
			}
		})
	}
}

// Echo greets and then echoes until the client has sent everything.
func Echo(_ context.Context, conn net.Conn) error {
	greeting := hello(addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr()))
	if _, err := conn.Write(greeting); err != nil {
		return err
	}
	_, err := io.Copy(conn, conn)
	return err
}

// Greet greets and ends the connection.
func Greet(_ context.Context, conn net.Conn) error {
	_, err := conn.Write(hello(addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr())))
	return err
}

// hello renders the greeting line.
func hello(client, server netip.AddrPort) []byte {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	line, err := json.Marshal(Hello{Host: host, Client: client, Server: server})
	if err != nil {
		return []byte("{}\n") // three values that always have a JSON form
	}
	return append(line, '\n')
}

func addrPort(address net.Addr) netip.AddrPort {
	switch a := address.(type) {
	case *net.TCPAddr:
		return unmap(a.AddrPort())
	case *net.UDPAddr:
		return unmap(a.AddrPort())
	}
	return netip.AddrPort{}
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// HTTP serves pages on a port: / (a Hello), /healthz, /hostname, /clientip.
func HTTP(ctx context.Context, port uint16) error {
	mux := http.NewServeMux()
	about := func(r *http.Request) []byte {
		client, _ := netip.ParseAddrPort(r.RemoteAddr)
		server, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		return hello(unmap(client), addrPort(server))
	}
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(about(r))
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	mux.HandleFunc("/hostname", func(w http.ResponseWriter, r *http.Request) {
		host, err := os.Hostname()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		io.WriteString(w, host)
	})
	mux.HandleFunc("/clientip", func(w http.ResponseWriter, r *http.Request) {
		client, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		io.WriteString(w, client.Addr().Unmap().String())
	})
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// UDPEcho answers each datagram on a port with a greeting line and itself.
func UDPEcho(ctx context.Context, port uint16) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	serve := map[string]func(context.Context, net.PacketConn) error{"udp4": udpEcho4, "udp6": udpEcho6}
	errs := make(chan error, len(serve))
	var missing []error
	for network, run := range serve {
		var config net.ListenConfig
		conn, err := config.ListenPacket(ctx, network, fmt.Sprintf(":%d", port))
		if err != nil {
			missing = append(missing, err)
			continue
		}
		go func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			errs <- run(ctx, conn)
		}()
	}
	if len(missing) == len(serve) {
		return errors.Join(missing...)
	}
	var all []error
	for range len(serve) - len(missing) {
		all = append(all, <-errs)
		cancel() // one family alone is not what was asked for
	}
	return errors.Join(all...)
}

func udpEcho4(ctx context.Context, socket net.PacketConn) error {
	conn := ipv4.NewPacketConn(socket)
	if err := conn.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return err
	}
	buffer := make([]byte, 65536)
	for {
		n, control, from, err := conn.ReadFrom(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		asked := localPort(socket, control.Dst)
		answer := append(hello(addrPort(from), asked), buffer[:n]...)
		// A datagram that cannot be answered is a lost one: the client sees it.
		_, _ = conn.WriteTo(answer, &ipv4.ControlMessage{Src: control.Dst}, from)
	}
}

func udpEcho6(ctx context.Context, socket net.PacketConn) error {
	conn := ipv6.NewPacketConn(socket)
	if err := conn.SetControlMessage(ipv6.FlagDst, true); err != nil {
		return err
	}
	buffer := make([]byte, 65536)
	for {
		n, control, from, err := conn.ReadFrom(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		asked := localPort(socket, control.Dst)
		answer := append(hello(addrPort(from), asked), buffer[:n]...)
		_, _ = conn.WriteTo(answer, &ipv6.ControlMessage{Src: control.Dst}, from)
	}
}

func localPort(socket net.PacketConn, asked net.IP) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(asked)
	return netip.AddrPortFrom(addr.Unmap(), addrPort(socket.LocalAddr()).Port())
}
