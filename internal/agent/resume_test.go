// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waymark-net/waymark/ovs/pipeline"
)

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, flows := newSwitches(t)
		r := resume{flows: flows}
		begin := func(want bool) {
			t.Helper()
			if err := r.begin(); err != nil {
				t.Fatal(err)
			}
			if got := slices.Contains(flows.Owners(), pipeline.OwnerResume); got != want {
				t.Errorf("declared: %t, want %t", got, want)
			}
		}
		begin(false) // the node has just begun
		r.describe(pipeline.GatewayParams{Port: 1})
		begin(true)
		time.Sleep(resumeFor - time.Second)
		begin(true) // the switch was restarted again
		time.Sleep(resumeFor - time.Second)
		if !slices.Contains(flows.Owners(), pipeline.OwnerResume) {
			t.Error("the second restart got less time")
		}
		time.Sleep(2 * time.Second)
		if slices.Contains(flows.Owners(), pipeline.OwnerResume) {
			t.Error("declared for good")
		}
	})
}
