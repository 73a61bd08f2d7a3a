// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"github.com/waymark-net/waymark/routing/bfd"
)

// judge decides which peers' paths are lost. It is pure: statuses go in, names
// come out.
type judge map[string]path

// path is what is remembered of one peer's.
type path struct {
	// session is the local discriminator: another one is a new session, which has
	// never been up.
	session uint32
	downs   uint64
	// lost says in words why the path is lost, empty: it is not known to be.
	lost string
}

// resumed returns a judge that has looked at sessions in a process before. Those
// that are not Up are judged again by how they went down.
func resumed(statuses []bfd.Status) judge {
	j := judge{}
	for _, st := range statuses {
		p := path{session: st.LocalDiscriminator, downs: st.Downs}
		if st.State != bfd.Up && p.downs > 0 {
			p.downs--
		}
		j[st.Name] = p
	}
	return j
}

// look takes the statuses of all sessions. It returns the peers whose path was
// lost since it looked last, and those whose path is lost now, with the reason.
// A peer that is in the first alone has its path back already.
func (j judge) look(statuses []bfd.Status) (fresh, lost map[string]string) {
	fresh, lost = map[string]string{}, map[string]string{}
	wanted := map[string]bool{}
	for _, st := range statuses {
		wanted[st.Name] = true
		p := j[st.Name]
		if p.session != st.LocalDiscriminator {
			p = path{session: st.LocalDiscriminator}
		}
		if st.Downs > p.downs && !ended(st) {
			p.lost = reason(st)
			fresh[st.Name] = p.lost
		}
		p.downs = st.Downs
		if st.State == bfd.Up || st.RemoteState == bfd.AdminDown {
			p.lost = ""
		}
		if p.lost != "" {
			lost[st.Name] = p.lost
		}
		j[st.Name] = p
	}
	for name := range j {
		if !wanted[name] {
			delete(j, name)
		}
	}
	return fresh, lost
}

// ended says whether the other end ended the session, which says nothing of the
// path. It says AdminDown when BFD was switched off on purpose. A system that goes
// Down because it lost the path says why (RFC 5880, 6.8.4 and 6.8.6); FRR, when it
// removes a session or makes it anew, says Down and that we were the first, while
// we were Up.
func ended(st bfd.Status) bool {
	if st.RemoteState == bfd.AdminDown {
		return true
	}
	if st.Diagnostic != bfd.DiagNeighborSignaled {
		return false
	}
	switch st.RemoteDiagnostic {
	case bfd.DiagNone, bfd.DiagNeighborSignaled, bfd.DiagAdminDown:
		return true
	}
	return false
}

func reason(st bfd.Status) string {
	switch {
	case st.Diagnostic == bfd.DiagNeighborSignaled:
		return "BFD lost the path to the peer, says the peer: " + st.RemoteDiagnostic.String()
	case st.State == bfd.Up:
		return "BFD lost the path to the peer for a moment"
	}
	return "BFD lost the path to the peer: " + st.Diagnostic.String()
}
