// SPDX-License-Identifier: Apache-2.0

package gobgp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/osrg/gobgp/v4/api"

	"github.com/waymark-net/waymark/routing"
)

// trouble is what went wrong with one peer.
type trouble struct {
	// down: why the last established session ended.
	down   string
	downAt time.Time
	// try: why the last attempt to establish one failed.
	try   string
	tryAt time.Time
	// inSession is between the records of the session's begin and end.
	inSession bool
	// clue: the most telling record within it.
	clue string
	// warning: what an established peer does wrong.
	warning string
	// openFailed: the last attempt failed over the OPEN messages.
	openFailed bool
}

// lastError returns the error to show. That a peer closes connections without
// a word says less than what it said when it ended the session.
func (t trouble) lastError(established bool) (string, time.Time) {
	vague := t.try == "" || t.try == closedAfterOpen && t.down != ""
	if established || vague {
		return t.down, t.downAt
	}
	return t.try, t.tryAt
}

func (t *trouble) cameUp() {
	t.inSession, t.try, t.clue, t.warning, t.openFailed = true, "", "", "", false
}

func (t *trouble) wentDown(reason string, at time.Time) {
	t.down, t.downAt = t.clue, at
	if t.down == "" {
		t.down = downWords(reason)
	}
	t.inSession, t.try, t.clue = false, "", ""
}

// failed notes an attempt that ended in a state change; records of the log
// say more than the reason of the event.
func (s *sighting) failed(why api.PeerState_DisconnectReason, at time.Time) {
	if s.inSession || s.try != "" && at.Sub(s.tryAt) <= time.Second {
		return // events may come later than records
	}
	switch why {
	case api.PeerState_DISCONNECT_REASON_INVALID_MSG:
		s.try, s.tryAt = refusedOpen, at
	case api.PeerState_DISCONNECT_REASON_READ_FAILED:
		s.try, s.tryAt = closedAfterOpen, at
	}
	s.explainOpen()
}

// explainOpen puts what a probe found into words that are vague without it,
// or asks for one.
func (s *sighting) explainOpen() {
	switch {
	case strings.HasPrefix(s.try, badPeerAS):
		s.openFailed = true
		s.try = fmt.Sprintf("%s: the peer is not in AS %d", badPeerAS, s.peer.ASN)
		if s.found.asn != 0 {
			s.try = fmt.Sprintf("%s: the peer says %d, configured is %d", badPeerAS, s.found.asn, s.peer.ASN)
		}
	case strings.HasPrefix(s.try, refusedOpen):
		s.openFailed = true
		s.try = refusedOpen + ": does it expect another ASN of this node?"
		if s.found.refusal != "" {
			s.try = refusedOpen + ": " + s.found.refusal
		}
	}
}

const (
	silence         = "hold timer expired: the peer was silent"
	badPeerAS       = "OPEN rejected: Bad Peer AS"
	refusedOpen     = "the peer refused our OPEN message"
	closedAfterOpen = "the peer closed the connection instead of answering our OPEN message: does it have this node as a neighbour?"
)

// downWords turns GoBGP's reason for the end of a session into words.
func downWords(reason string) string {
	switch reason {
	case "hold-timer-expired":
		return silence
	case "graceful-restart":
		return "the peer closed the connection without a reason, its routes are kept for its restart time"
	case "read-failed", "write-failed":
		return "the peer closed the connection without a reason"
	case "admin-down", "dying", "unknown":
		return "the configuration of the peer changed"
	}
	return "the session ended: " + reason
}

// dialWords turns a failed connection attempt into words.
func dialWords(p routing.Peer, err string) string {
	port := p.Port
	if port == 0 {
		port = 179
	}
	to := fmt.Sprintf("%s port %d", p.Address, port)
	switch {
	case strings.Contains(err, "connection refused"):
		return "connection refused by " + to
	case strings.Contains(err, "timeout") && p.Password != "":
		return "no answer from " + to + ": unreachable, or the passwords (TCP MD5) differ"
	case strings.Contains(err, "timeout"):
		return "no answer from " + to + ": unreachable, or the peer wants a password (TCP MD5)"
	case strings.Contains(err, "no route to host"):
		return "no route to " + to
	case strings.Contains(err, "network is unreachable"):
		return "network of " + to + " is unreachable"
	case strings.Contains(err, "cannot assign requested address"):
		return fmt.Sprintf("source address %s is not an address of this node", p.SourceAddress)
	}
	return "connection to " + to + " failed: " + err
}

// notifications are the error codes and subcodes of RFC 4271, 4486, 6608 and 8538.
var notifications = map[uint8]struct {
	name string
	sub  map[uint8]string
}{
	1: {"message header error", map[uint8]string{1: "connection not synchronized", 2: "bad message length", 3: "bad message type"}},
	2: {"OPEN rejected", map[uint8]string{1: "unsupported version", 2: "Bad Peer AS", 3: "Bad BGP Identifier (same router ID?)",
		4: "unsupported optional parameter", 6: "unacceptable hold time", 7: "unsupported capability"}},
	3: {"UPDATE rejected", map[uint8]string{1: "malformed attribute list", 2: "unrecognized well-known attribute",
		3: "missing well-known attribute", 4: "attribute flags error", 5: "attribute length error", 6: "invalid ORIGIN",
		8: "invalid NEXT_HOP", 9: "optional attribute error", 10: "invalid network field", 11: "malformed AS_PATH"}},
	4: {"hold timer expired", nil},
	5: {"message not expected in this state", nil},
	6: {"Cease", map[uint8]string{1: "maximum number of prefixes reached", 2: "administrative shutdown", 3: "peer de-configured",
		4: "administrative reset", 5: "connection rejected", 6: "other configuration change", 7: "connection collision",
		8: "out of resources", 9: "hard reset", 10: "BFD down"}},
	7: {"ROUTE-REFRESH message error", nil},
}

// notificationWords names a NOTIFICATION.
func notificationWords(code, subcode uint8) string {
	n, ok := notifications[code]
	if !ok {
		return fmt.Sprintf("error %d/%d", code, subcode)
	}
	if sub, ok := n.sub[subcode]; ok {
		return n.name + ": " + sub
	}
	if subcode != 0 {
		return fmt.Sprintf("%s (subcode %d)", n.name, subcode)
	}
	return n.name
}

// logHandler reads GoBGP's log for the watch, and passes on what concerns an
// operator.
type logHandler struct {
	watch *watch
	attrs []slog.Attr
}

// Enabled implements slog.Handler: failed connection attempts are debug records.
func (*logHandler) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{watch: h.watch, attrs: append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup implements slog.Handler: GoBGP uses no groups.
func (h *logHandler) WithGroup(string) slog.Handler { return h }

// Handle implements slog.Handler.
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo && r.Message != msgDialFailed && r.Message != msgOutgoingFailed {
		return nil
	}
	rec := record{message: r.Message, at: r.Time, attrs: map[string]slog.Value{}}
	for _, a := range h.attrs {
		rec.attrs[a.Key] = a.Value
	}
	r.Attrs(func(a slog.Attr) bool {
		rec.attrs[a.Key] = a.Value
		return true
	})
	addr, err := netip.ParseAddr(rec.text("Key"))
	if err == nil {
		h.watch.with(addr, func(s *sighting) {
			s.read(rec)
			switch rec.message {
			case msgUp:
				h.watch.logger.Info("BGP session is up", "peer", s.peer.Name, "address", s.peer.Address, "asn", s.peer.ASN)
			case msgDown:
				h.watch.logger.Info("BGP session is down", "peer", s.peer.Name, "address", s.peer.Address, "reason", s.down)
			}
		})
		h.watch.wake()
	}
	h.pass(r, rec)
	return nil
}

// pass logs what GoBGP logs when asked for: the watch logs what matters.
func (h *logHandler) pass(r slog.Record, rec record) {
	if r.Level < slog.LevelInfo || r.Message == msgNotRunning {
		return
	}
	level := 4
	if r.Level >= slog.LevelWarn {
		level = 2
	}
	values := []any{"peer", rec.text("Key")}
	for _, k := range []string{"State", "Reason", "Error", "Err", "Code", "Subcode"} {
		if v, ok := rec.attrs[k]; ok {
			values = append(values, strings.ToLower(k), v.String())
		}
	}
	h.watch.logger.V(level).Info("GoBGP: "+r.Message, values...)
}

// The records of GoBGP that are read.
const (
	msgUp             = "Peer Up"
	msgDown           = "Peer Down"
	msgDialFailed     = "failed to connect"
	msgOutgoingFailed = "outgoing connection IO error"
	msgSent           = "sent notification"
	msgReceived       = "received notification"
	msgHoldTimer      = "hold timer expired"
	msgBadHeader      = "Session will be reset due to malformed BGP Header"
	msgBadMessage     = "Session will be reset due to malformed BGP message"
	msgBadUpdate      = "Session will be reset due to malformed BGP update message"
	msgWithdrawn      = "the received Update message was treated as withdraw"
	msgDiscarded      = "Some attributes were discarded"
	msgMD5            = "failed to set md5"
	msgLocalMismatch  = "Mismatched local address"
	msgNotRunning     = "failed to stop BGP server" // by instance.stop, after StopBgp
)

type record struct {
	message string
	at      time.Time
	attrs   map[string]slog.Value
}

// text returns an attribute as text, empty when it is missing.
func (r record) text(key string) string {
	if v, ok := r.attrs[key]; ok {
		return v.String()
	}
	return ""
}

func (r record) number(key string) uint8 {
	if v, ok := r.attrs[key]; ok && v.Kind() == slog.KindInt64 {
		return uint8(v.Int64())
	}
	return 0
}

// read takes one log record about the peer.
func (s *sighting) read(r record) {
	switch r.message {
	case msgUp:
		s.cameUp()
		return
	case msgDown:
		s.wentDown(r.text("Reason"), r.at)
		return
	}
	words := s.words(r)
	if words == "" {
		return
	}
	switch {
	case r.message == msgWithdrawn || r.message == msgDiscarded:
		s.warning = words
	case s.inSession:
		if s.clue == "" || r.message == msgReceived {
			s.clue = words
		}
	default:
		s.try, s.tryAt = words, r.at
		s.explainOpen()
	}
}

func (s *sighting) words(r record) string {
	code, subcode := r.number("Code"), r.number("Subcode")
	switch r.message {
	case msgDialFailed:
		return dialWords(s.peer, r.text("Error"))
	case msgOutgoingFailed:
		return closedAfterOpen
	case msgReceived:
		return "the peer closed the session: " + receivedWords(code, subcode, r)
	case msgSent:
		return s.sentWords(code, subcode)
	case msgHoldTimer:
		return silence
	case msgBadHeader, msgBadMessage, msgBadUpdate:
		return "the peer sent a malformed message: " + r.text("Error")
	case msgWithdrawn:
		return "routes are ignored for a malformed UPDATE: " + r.text("Error")
	case msgDiscarded:
		return "attributes of an UPDATE are ignored: " + r.text("Error")
	case msgMD5:
		return "the password (TCP MD5) cannot be set: " + r.text("Err")
	case msgLocalMismatch:
		return "the peer connected to " + r.text("Addr") + ", the configured source address is " + r.text("Configured addr")
	}
	return ""
}

// receivedWords names a NOTIFICATION of the peer. A Hard Reset carries the one
// it stands for (RFC 8538, 3.1), an administrative one may carry a text (RFC 9003).
func receivedWords(code, subcode uint8, r record) string {
	why := r.text("Communicated-Reason")
	if data, ok := r.attrs["Data"].Any().([]byte); ok && code == 6 && subcode == 9 && len(data) >= 2 {
		code, subcode = data[0], data[1]
		if text := data[2:]; len(text) > 0 && len(text) > int(text[0]) {
			why = string(text[1 : 1+int(text[0])])
		}
	}
	words := notificationWords(code, subcode)
	if why != "" && utf8.ValidString(why) {
		words += " (" + why + ")"
	}
	return words
}

// sentWords names a NOTIFICATION of ours. In an established session it
// follows a record that says more.
func (s *sighting) sentWords(code, subcode uint8) string {
	switch {
	case code == 2 && subcode == 2:
		return badPeerAS
	case code == 5 && !s.inSession:
		return refusedOpen
	case code == 6 && s.inSession:
		return "" // our own doing
	}
	if !s.inSession {
		return "we refused the peer: " + notificationWords(code, subcode)
	}
	return "we closed the session: " + notificationWords(code, subcode)
}
