// SPDX-License-Identifier: Apache-2.0

package unixctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// timeout bounds a command.
const timeout = 10 * time.Second

// ErrRefused is what the error wraps of a command that the daemon did not do.
var ErrRefused = errors.New("refused")

// Call has the daemon at a socket do a command and returns what it says.
func Call(ctx context.Context, socket, command string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	said, err := call(ctx, socket, command, args)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", command, strings.Join(args, " "), err)
	}
	return said, nil
}

func call(ctx context.Context, socket, command string, args []string) (string, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if args == nil {
		args = []string{}
	}
	request := struct {
		Method string   `json:"method"`
		Params []string `json:"params"`
		ID     int      `json:"id"`
	}{command, args, 0}
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return "", err
	}
	var reply struct {
		Result *string `json:"result"`
		Error  *string `json:"error"`
	}
	if err := json.NewDecoder(conn).Decode(&reply); err != nil {
		return "", err
	}
	if reply.Error != nil {
		return "", fmt.Errorf("%w: %s", ErrRefused, strings.TrimSpace(*reply.Error))
	}
	if reply.Result == nil {
		return "", errors.New("the answer has neither result nor error")
	}
	return *reply.Result, nil
}
