// SPDX-License-Identifier: Apache-2.0

//go:build integration

package hostfw

import (
	"context"
	"testing"
	"time"

	"github.com/waymark-net/waymark/internal/testnet"
)

// TestRepairWhenTold repairs upon notifications, as the agent does.
func TestRepairWhenTold(t *testing.T) {
	testnet.Run(t, func(t *testing.T, node *testnet.Namespace) {
		newWorld(t, node)
		told := make(chan Table, 1000)
		w := NewWatcher(WatcherParams{Notify: func(c Table) { told <- c }})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		await := func(what string, want Table) {
			t.Helper()
			for {
				select {
				case got := <-told:
					if got == want {
						return
					}
				case <-time.After(5 * time.Second):
					t.Fatalf("%s: not told", what)
				}
			}
		}
		await("begin", TableFirewall)
		f, s := New(Params{Backend: NFTables}), NewServices(Params{Backend: NFTables})
		apply := func(what string, drift Table) {
			t.Helper()
			res, err := f.Apply(t.Context(), full(SNATAuto))
			if err != nil || res.Drift != (drift == TableFirewall) {
				t.Fatalf("%s: %+v, %v", what, res, err)
			}
			res, err = s.Apply(t.Context(), fullServices())
			if err != nil || res.Drift != (drift == TableServices) {
				t.Fatalf("%s: Services: %+v, %v", what, res, err)
			}
			// What it wrote is told, too; both tables are there and in place.
			for len(told) > 0 {
				<-told
			}
		}
		apply("first", "")
		for _, tt := range []struct {
			script string
			want   Table
		}{
			{"nft delete table inet waymark", TableFirewall},
			{"nft flush table inet waymark-services", TableServices},
			{"nft insert rule inet waymark postrouting counter", TableFirewall},
		} {
			node.Exec(t, tt.script)
			await(tt.script, tt.want)
			apply(tt.script, tt.want)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
