// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHierarchiesOf(t *testing.T) {
	for _, tc := range []struct {
		name, mounts string
		controllers  bool
		want         []hierarchy
	}{
		{
			name: "version 2", controllers: true,
			mounts: "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
			want:   []hierarchy{{path: "/sys/fs/cgroup", unified: true}},
		},
		{
			name: "version 1 with joint and named hierarchies, and version 2 beside", controllers: true,
			mounts: "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct\n" +
				"32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
				"33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"34 30 0:29 / /mnt/again rw - cgroup cgroup rw,memory\n" +
				"35 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			want: []hierarchy{
				{path: "/sys/fs/cgroup/cpu,cpuacct", options: []string{"cpu", "cpuacct"}},
				{path: "/sys/fs/cgroup/systemd", options: []string{"none", "name=systemd"}},
				{path: "/sys/fs/cgroup/memory", options: []string{"memory"}},
			},
		},
		{
			name: "version 2 without controllers", controllers: false,
			mounts: "35 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n36 1 0:1 / / rw - ext4 /dev/vda rw\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := hierarchiesOf(parseMounts(tc.mounts), func(string) bool { return tc.controllers })
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(hierarchy{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add("35 30 0:30 / /a\\040b rw - cgroup2 cgroup2 rw,x\n")
	f.Add(" - \n- - -\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, m := range parseMounts(text) {
			if m.kind == "" || strings.Contains(m.kind, " ") {
				t.Errorf("kind %q of %q", m.kind, text)
			}
		}
	})
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name string
		spec Spec
		ok   bool
	}{
		{"good", Spec{Lab: "lab-1", Name: "n1"}, true},
		{"dot in the lab's name", Spec{Lab: "a.b", Name: "n1"}, false},
		{"slash", Spec{Lab: "lab", Name: "../n1"}, false},
		{"files without a private root", Spec{Lab: "lab", Name: "n1", Files: []File{{Path: "/etc/x"}}}, false},
	} {
		if err := tc.spec.validate(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}
