// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/waymark-net/waymark/test/lab/topology"
)

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := newProgress(&out, time.Now)
		_ = p.step("quick", func() error { return nil })
		_ = p.step("slow", func() error {
			p.note("first this")
			time.Sleep(90 * time.Second)
			return nil
		})
		err := p.step("broken", func() error { return errors.New("no luck") })
		if err == nil || err.Error() != "broken: no luck" {
			t.Errorf("error %v", err)
		}
		want := "    0.0s  quick ... 0.0s\n" +
			"    0.0s  slow ...\n          first this\n          90.0s\n" +
			"   90.0s  broken ... FAILED\n"
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		err := Until(t.Context(), time.Minute, func(context.Context) error {
			if asked++; asked < 5 {
				return errors.New("not yet")
			}
			return nil
		})
		if err != nil || asked != 5 {
			t.Errorf("asked %d times, %v", asked, err)
		}
		err = Until(t.Context(), time.Minute, func(context.Context) error { return errors.New("n3 is missing") })
		if err == nil || err.Error() != "gave up after 1m0s: n3 is missing" {
			t.Errorf("error %v", err)
		}
	})
}

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*Description)
		want string // empty: valid
	}{
		{"default", func(*Description) {}, ""},
		{"mode", func(d *Description) { d.Mode = "noEncap" }, ""},
		{"name with a dot", func(d *Description) { d.Name = "a.b" }, `name "a.b"`},
		{"long name", func(d *Description) { d.Name = strings.Repeat("x", 25) }, "at most 24"},
		{"unknown mode", func(d *Description) { d.Mode = "bridge" }, "encap, noEncap, hybrid"},
		{"network", func(d *Description) { d.Network.Racks = 0 }, "racks"},
		{"sandbox", func(d *Description) { d.SandboxImage = "" }, "sandbox"},
		{"bare", func(d *Description) { d.Bare = true }, ""},
		{"bare with the product", func(d *Description) { d.Bare, d.Mode = true, "encap" }, "without Kubernetes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := Default("test")
			tc.edit(&d)
			err := d.Validate()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("Validate = %v, want %q", err, tc.want)
			}
		})
	}
}

func TestManifestOfMode(t *testing.T) {
	d := Default("test")
	d.Mode = "noEncap"
	if got := d.manifest("/src"); got != "/src/manifests/waymark-noencap.yaml" || !d.hasProduct() || !d.routes() {
		t.Errorf("%s, %t, %t", got, d.hasProduct(), d.routes())
	}
	d.Mode = "encap"
	if d.routes() {
		t.Error("encap peers with routers")
	}
}

func TestSetInManifest(t *testing.T) {
	const manifest = `apiVersion: v1
kind: Namespace
metadata: {name: x} # a comment
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: waymark-config
data:
  waymark.yaml: |
    apiVersion: config.waymark.io/v1alpha1
    datapath: system
    tunnel: {type: geneve}
`
	got, err := setInManifest([]byte(manifest), map[string]string{"datapath": "netdev", "tunnel.type": "vxlan", "bgp.asn": "65536", "nonMasqueradeCIDRs": "[10.0.0.0/8]"})
	if err != nil {
		t.Fatal(err)
	}
	namespace, configMap, ok := strings.Cut(string(got), "\n---\n")
	if !ok || !strings.Contains(namespace, "# a comment") {
		t.Errorf("another document was touched:\n%s", got)
	}
	var object struct {
		Data map[string]string `json:"data"`
	}
	if err := yaml.Unmarshal([]byte(configMap), &object); err != nil {
		t.Fatal(err)
	}
	want := `apiVersion: config.waymark.io/v1alpha1
bgp:
  asn: 65536
datapath: netdev
nonMasqueradeCIDRs:
- 10.0.0.0/8
tunnel:
  type: vxlan
`
	if diff := cmp.Diff(want, object.Data["waymark.yaml"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for name, tc := range map[string]struct {
		manifest string
		settings map[string]string
	}{
		"no ConfigMap":       {"kind: Namespace\n", map[string]string{"a": "1"}},
		"no key":             {"kind: ConfigMap\nmetadata: {name: waymark-config}\n", map[string]string{"a": "1"}},
		"no object":          {manifest, map[string]string{"datapath.type": "x"}},
		"value is not YAML":  {manifest, map[string]string{"datapath": "{"}},
		"manifest not YAML":  {"{", map[string]string{"a": "1"}},
		"document not valid": {strings.Replace(manifest, "{type: geneve}", "{", 1), map[string]string{"a": "1"}},
	} {
		if _, err := setInManifest([]byte(tc.manifest), tc.settings); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func testLab(t *testing.T, edit func(*topology.Spec)) *Lab {
	t.Helper()
	d := Default("test")
	edit(&d.Network)
	topo, err := topology.New(d.Network)
	if err != nil {
		t.Fatal(err)
	}
	return &Lab{paths: paths{"test"}, record: record{Description: d, Topology: topo}}
}

func TestPeerObjects(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(*topology.Spec)
		want string
	}{
		{
			name: "a session a family", edit: func(s *topology.Spec) { s.Nodes, s.Racks = 1, 1 },
			want: `---
apiVersion: waymark.io/v1alpha1
kind: BGPPeer
metadata: {name: tora-ipv4}
spec:
  nodeSelector: {matchLabels: {topology.kubernetes.io/zone: racka}}
  address: "172.30.1.1"
  asn: 65001
  families: [ipv4]
  timers: {holdTime: 9s, keepaliveTime: 3s, connectRetryTime: 1s}
---
apiVersion: waymark.io/v1alpha1
kind: BGPPeer
metadata: {name: tora-ipv6}
spec:
  nodeSelector: {matchLabels: {topology.kubernetes.io/zone: racka}}
  address: "fd30:0:0:1::1"
  asn: 65001
  families: [ipv6]
  timers: {holdTime: 9s, keepaliveTime: 3s, connectRetryTime: 1s}
`,
		},
		{
			name: "one session with a password",
			edit: func(s *topology.Spec) {
				s.Nodes, s.Racks, s.Routers.Session, s.Routers.Password, s.Routers.GTSM = 1, 1, topology.OverIPv6, "secret", true
			},
			want: `apiVersion: v1
kind: Secret
metadata: {name: lab-bgp, namespace: kube-system}
stringData: {password: "secret"}
---
apiVersion: waymark.io/v1alpha1
kind: BGPPeer
metadata: {name: tora-ipv6}
spec:
  nodeSelector: {matchLabels: {topology.kubernetes.io/zone: racka}}
  address: "fd30:0:0:1::1"
  asn: 65001
  families: [ipv4, ipv6]
  timers: {holdTime: 9s, keepaliveTime: 3s, connectRetryTime: 1s}
  passwordSecretRef: {name: lab-bgp, key: password}
  gtsm: {maxHops: 1}
`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, testLab(t, tc.edit).PeerObjects()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDNSObjects(t *testing.T) {
	for _, tc := range []struct {
		families topology.Families
		policy   string
		want     []string
	}{
		{topology.Dual, "RequireDualStack", []string{"10.96.0.10", "fd00:96::a"}},
		{topology.IPv4, "SingleStack", []string{"10.96.0.10"}},
		{topology.IPv6, "SingleStack", []string{"fd00:96::a"}},
	} {
		l := testLab(t, func(s *topology.Spec) { s.Families = tc.families })
		var kinds []string
		for document := range strings.SplitSeq(dnsObjects(l.ClusterDNS()), "\n---\n") {
			var object struct {
				Kind string
				Spec struct {
					ClusterIP, IPFamilyPolicy string
					ClusterIPs                []string
				}
			}
			if err := yaml.Unmarshal([]byte(document), &object); err != nil {
				t.Fatalf("%s: %v\n%s", tc.families, err, document)
			}
			kinds = append(kinds, object.Kind)
			if s := object.Spec; object.Kind == "Service" &&
				(s.IPFamilyPolicy != tc.policy || s.ClusterIP != tc.want[0] || !slices.Equal(s.ClusterIPs, tc.want)) {
				t.Errorf("%s: Service %+v, want %s at %s", tc.families, s, tc.policy, tc.want)
			}
		}
		want := []string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "Service", "Deployment"}
		if diff := cmp.Diff(want, kinds); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.families, diff)
		}
	}
}

func TestSessionsUp(t *testing.T) {
	for _, tc := range []struct {
		name, summary, want string // want empty: no complaint
	}{
		{"up", `{"ipv4Unicast":{"routerId":"1","peers":{"172.31.0.3":{"state":"Established"}}}}`, ""},
		{"one down", `{"ipv4Unicast":{"peers":{"a":{"state":"Established"}}},"ipv6Unicast":{"peers":{"fd31::3":{"state":"Active"}}}}`, "fd31::3 for ipv6Unicast is Active"},
		{"none", `{}`, "no BGP sessions"},
		{"not JSON", `% BGP instance not found`, "read summary"},
	} {
		err := sessionsUp([]byte(tc.summary))
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func TestDropRules(t *testing.T) {
	for _, test := range []struct {
		name string
		d    drops
		want string
	}{
		{"both ways", drops{prefixes: []string{"10.10.0.0/16", "fd10::5"}, from: true},
			`		ip daddr 10.10.0.0/16 counter drop
		ip saddr 10.10.0.0/16 counter drop
		ip6 daddr fd10::5/128 counter drop
		ip6 saddr fd10::5/128 counter drop
`},
		{"one way", drops{prefixes: []string{"10.10.0.0/16"}}, "\t\tip daddr 10.10.0.0/16 counter drop\n"},
		{"large ones", drops{prefixes: []string{"fd10::/64"}, from: true, above: 1400},
			`		ip6 daddr fd10::/64 meta length > 1400 counter drop
		ip6 saddr fd10::/64 meta length > 1400 counter drop
`},
	} {
		got, err := test.d.rules()
		if err != nil {
			t.Fatal(err)
		}
		want := "table inet lab_blackhole {\n\tchain forward {\n\t\ttype filter hook forward priority -300; policy accept;\n" + test.want + "\t}\n}\n"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	if _, err := (drops{prefixes: []string{"pods"}}).rules(); err == nil {
		t.Error("not a prefix: no error")
	}
}

func TestFailRefuses(t *testing.T) {
	l := testLab(t, func(*topology.Spec) {})
	for _, args := range [][]string{{"explode"}, {"link-down"}, {"link-down", "a", "b"}, {"blackhole", "torA"},
		{"blackhole-large", "torA", "many", "10.10.0.0/16"}, {"blackhole-large", "torA", "0", "10.10.0.0/16"}, {"blackhole-to", "n1", "10.10.0.0/16"}} {
		if err := l.Fail(t.Context(), args[0], args[1:]...); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

func TestSplitPackets(t *testing.T) {
	got := splitPackets("1 IP a > b: Geneve\n\tIP c > d: ICMP\n2 IP6 e > f\n")
	want := []string{"1 IP a > b: Geneve IP c > d: ICMP", "2 IP6 e > f"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSource(t *testing.T) {
	root, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "test/lab/kube/main.go")); err != nil {
		t.Error(err)
	}
	t.Chdir(t.TempDir())
	if _, err := Source(); err == nil {
		t.Error("outside of the repository: no error")
	}
}
