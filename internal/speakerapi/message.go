// SPDX-License-Identifier: Apache-2.0

package speakerapi

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/waymark-net/waymark/routing"
)

// SocketName is the name of the speaker's socket in the run directory.
const SocketName = "speaker.sock"

const (
	// protocol is the version of the protocol that is spoken here. It changes when
	// a field gets another meaning, and not when one is added.
	protocol = 1
	// oldest is the oldest version that is understood.
	oldest = 1
	// maxMessage bounds a message, in bytes: the routes of 150,000 prefixes and
	// the Pod CIDRs of 100,000 nodes are shorter.
	maxMessage = 64 << 20
)

// message is one line of the protocol. One field is set.
type message struct {
	// Hello is the first message of both ends.
	Hello *hello `json:"hello,omitempty"`
	// Set and Shutdown are the agent's and answered.
	Set      *setRequest      `json:"set,omitempty"`
	Shutdown *shutdownRequest `json:"shutdown,omitempty"`
	// Answer, Routes and Sessions are the speaker's.
	Answer   *answer            `json:"answer,omitempty"`
	Routes   *routing.PathEvent `json:"routes,omitempty"`
	Sessions *sessionList       `json:"sessions,omitempty"`
}

type hello struct {
	// Protocol is the version that the end speaks, Oldest the oldest that it
	// understands.
	Protocol int `json:"protocol"`
	Oldest   int `json:"oldest"`
}

type setRequest struct {
	ID     uint64            `json:"id"`
	Config routing.BGPConfig `json:"config"`
}

type shutdownRequest struct {
	ID uint64 `json:"id"`
}

type answer struct {
	ID uint64 `json:"id"`
	// Error is empty on success.
	Error string `json:"error,omitempty"`
}

type sessionList struct {
	List []routing.SessionStatus `json:"list"`
}

// greeting is our hello.
func greeting() message { return message{Hello: &hello{Protocol: protocol, Oldest: oldest}} }

// errProtocol is wrapped by what is wrong with the other end's hello.
var errProtocol = errors.New("agent and speaker do not understand each other")

// checkHello says in words why the other end cannot be understood.
func checkHello(m message) error {
	h := m.Hello
	switch {
	case h == nil:
		return fmt.Errorf("%w: the other end does not say which protocol it speaks", errProtocol)
	case h.Protocol < oldest:
		return fmt.Errorf("%w: the other end speaks version %d of the protocol, this one %d to %d: the other is the older and must be upgraded",
			errProtocol, h.Protocol, oldest, protocol)
	case h.Oldest > protocol:
		return fmt.Errorf("%w: the other end speaks versions %d to %d of the protocol, this one %d: this is the older and must be upgraded",
			errProtocol, h.Oldest, h.Protocol, protocol)
	}
	return nil
}

// encode returns the line of a message.
func encode(m message) ([]byte, error) {
	line, err := json.Marshal(m)
	if err == nil && len(line) >= maxMessage {
		err = fmt.Errorf("a message of %d bytes is longer than the %d that are allowed", len(line), maxMessage)
	}
	return append(line, '\n'), err
}

// decode reads one line. The error never contains what a string in it says.
func decode(r *bufio.Reader) (message, error) {
	var m message
	line, err := readLine(r, maxMessage)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(line, &m); err != nil {
		var value *json.UnmarshalTypeError
		if errors.As(err, &value) {
			return message{}, fmt.Errorf("a message cannot be read: field %s is no %s", value.Field, value.Type)
		}
		return message{}, errors.New("a message cannot be read")
	}
	return m, nil
}

// readLine reads a line of less than limit bytes, and takes no more memory than
// what came.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, fmt.Errorf("a message is longer than the %d bytes that are allowed", limit)
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}
