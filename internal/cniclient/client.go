// SPDX-License-Identifier: Apache-2.0

package cniclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/waymark-net/waymark/internal/cniapi"
)

const (
	// callTimeout is longer than the agent takes to give up by itself (the
	// longest wait for policies, then a request), so that the runtime gets the
	// agent's reason.
	callTimeout = 100 * time.Second
	// restartWait is how long the agent may be away before a call fails, and
	// redialInterval how often it is looked for.
	restartWait    = 5 * time.Second
	redialInterval = 50 * time.Millisecond
	// maxAnswer bounds what is read from the agent.
	maxAnswer = 4 << 20
)

// Params are the parameters of New.
type Params struct {
	// Stdout is where results are printed.
	Stdout io.Writer
	// RestartWait replaces the time for which an agent that is away is waited
	// for; zero is 5 s, negative does not wait.
	RestartWait time.Duration
}

// Client hands requests to the agent.
type Client struct {
	stdout io.Writer
	wait   time.Duration
}

// New returns a Client.
func New(p Params) *Client {
	if p.RestartWait == 0 {
		p.RestartWait = restartWait
	}
	return &Client{stdout: p.Stdout, wait: p.RestartWait}
}

// Funcs are the operations in the form that skel calls.
func (c *Client) Funcs() skel.CNIFuncs {
	call := func(command cniapi.Command) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error { return c.call(command, args) }
	}
	return skel.CNIFuncs{
		Add:    call(cniapi.Add),
		Del:    call(cniapi.Del),
		Check:  call(cniapi.Check),
		GC:     call(cniapi.GC),
		Status: call(cniapi.Status),
	}
}

// call sends one request and prints the result of an ADD. Every error is a
// *types.Error.
func (c *Client) call(command cniapi.Command, args *skel.CmdArgs) error {
	conf := struct {
		Socket string `json:"socket"`
	}{Socket: cniapi.DefaultSocket}
	if err := json.Unmarshal(args.StdinData, &conf); err != nil {
		return types.NewError(types.ErrDecodingFailure, "decoding network configuration: "+err.Error(), "")
	}
	body, err := json.Marshal(cniapi.Request{
		Command:     command,
		ContainerID: args.ContainerID,
		NetNS:       args.Netns,
		IfName:      args.IfName,
		Args:        args.Args,
		Config:      args.StdinData,
	})
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, "encoding request: "+err.Error(), "")
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	result, err := c.post(ctx, command, conf.Socket, body)
	if err != nil {
		return err
	}
	if command != cniapi.Add {
		return nil
	}
	if _, err := c.stdout.Write(result); err != nil {
		return types.NewError(types.ErrIOFailure, "printing the result: "+err.Error(), "")
	}
	return nil
}

// post returns the body of a successful answer.
func (c *Client) post(ctx context.Context, command cniapi.Command, socket string, body []byte) ([]byte, error) {
	away := func(err error) error {
		code := types.ErrTryAgainLater
		if command == cniapi.Status {
			code = types.ErrPluginNotAvailable
		}
		return types.NewError(code, fmt.Sprintf("the waymark agent does not answer on %s", socket), err.Error())
	}
	conn, err := c.dial(ctx, command, socket)
	if err != nil {
		return nil, away(err)
	}
	transport := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+cniapi.Path, bytes.NewReader(body))
	if err != nil {
		return nil, errors.Join(types.NewError(types.ErrInternal, err.Error(), ""), conn.Close())
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, away(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, away(err)
	}
	if resp.StatusCode == http.StatusOK {
		return answer, nil
	}
	var cniErr types.Error
	if err := json.Unmarshal(answer, &cniErr); err != nil || cniErr.Msg == "" {
		return nil, types.NewError(types.ErrInternal, "the waymark agent answered "+resp.Status, "")
	}
	return nil, &cniErr
}

// dial connects to the agent and, but for STATUS, waits a while for one that is
// being restarted.
func (c *Client) dial(ctx context.Context, command cniapi.Command, socket string) (net.Conn, error) {
	deadline := time.Now().Add(c.wait)
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
		if !absent || command == cniapi.Status || time.Now().After(deadline) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(redialInterval):
		}
	}
}
