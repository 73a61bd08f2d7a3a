// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/waymark-net/waymark/internal/cniapi"
)

func TestDecodeRequestRefuses(t *testing.T) {
	conf := func(c string) func(*cniapi.Request) {
		return func(r *cniapi.Request) { r.Config = json.RawMessage(c) }
	}
	args := func(a string) func(*cniapi.Request) {
		return func(r *cniapi.Request) { r.Args = a }
	}
	prev := func(p string) func(*cniapi.Request) {
		return conf(`{"cniVersion":"0.4.0","name":"waymark","prevResult":` + p + `}`)
	}
	tests := map[string]struct {
		change func(*cniapi.Request)
		code   uint
		text   string
	}{
		"command":             {func(r *cniapi.Request) { r.Command = "MOVE" }, 4, `unknown command "MOVE"`},
		"no command":          {func(r *cniapi.Request) { r.Command = "" }, 4, "unknown command"},
		"no configuration":    {func(r *cniapi.Request) { r.Config = json.RawMessage("null") }, 1, `cniVersion "0.1.0"`},
		"configuration type":  {conf(`[1]`), 6, "decoding network configuration"},
		"field type":          {conf(`{"cniVersion":1,"name":"waymark"}`), 6, "decoding network configuration"},
		"no version":          {conf(`{"name":"waymark"}`), 1, `cniVersion "0.1.0" is not supported`},
		"version too old":     {conf(`{"cniVersion":"0.2.0","name":"waymark"}`), 1, "not supported"},
		"version too new":     {conf(`{"cniVersion":"9.0.0","name":"waymark"}`), 1, "only 0.3.1, 0.4.0, 1.0.0, 1.1.0"},
		"version garbage":     {conf(`{"cniVersion":"new","name":"waymark"}`), 1, "not supported"},
		"no name":             {conf(`{"cniVersion":"1.0.0"}`), 7, "missing network name"},
		"name":                {conf(`{"cniVersion":"1.0.0","name":"../x"}`), 7, "invalid characters"},
		"no container":        {func(r *cniapi.Request) { r.ContainerID = "" }, 4, "CNI_CONTAINERID is missing"},
		"container":           {func(r *cniapi.Request) { r.ContainerID = "a/b" }, 4, "invalid characters"},
		"long container":      {func(r *cniapi.Request) { r.ContainerID = strings.Repeat("a", 129) }, 4, "longer than 128"},
		"no interface":        {func(r *cniapi.Request) { r.IfName = "" }, 4, "interface name is empty"},
		"long interface":      {func(r *cniapi.Request) { r.IfName = "interface-of-17-b" }, 4, "too long"},
		"interface":           {func(r *cniapi.Request) { r.IfName = "e/0" }, 4, "interface name contains"},
		"no namespace":        {func(r *cniapi.Request) { r.NetNS = "" }, 4, "CNI_NETNS"},
		"relative namespace":  {func(r *cniapi.Request) { r.NetNS = "ns/c1" }, 4, "not an absolute path"},
		"NUL in namespace":    {func(r *cniapi.Request) { r.NetNS = "/ns/c\x00" }, 4, "not an absolute path"},
		"no arguments":        {args(""), 4, "K8S_POD_NAMESPACE"},
		"argument":            {args("K8S_POD_NAMESPACE"), 4, "is not KEY=VALUE"},
		"no Pod":              {args("K8S_POD_NAMESPACE=default"), 4, "K8S_POD_NAME "},
		"Pod":                 {args("K8S_POD_NAMESPACE=default;K8S_POD_NAME=a\"b"), 4, "K8S_POD_NAME"},
		"Pod namespace":       {args("K8S_POD_NAMESPACE=Default;K8S_POD_NAME=a"), 4, "K8S_POD_NAMESPACE"},
		"UID":                 {args("K8S_POD_NAMESPACE=d;K8S_POD_NAME=a;K8S_POD_UID=a b"), 4, "K8S_POD_UID"},
		"CHECK without prev":  {func(r *cniapi.Request) { r.Command = cniapi.Check }, 7, "needs prevResult"},
		"CHECK too early":     {func(r *cniapi.Request) { r.Command = cniapi.Check; conf(`{"cniVersion":"0.3.1","name":"w"}`)(r) }, 1, "CHECK needs cniVersion 0.4.0"},
		"GC too early":        {func(r *cniapi.Request) { r.Command = cniapi.GC; conf(`{"cniVersion":"1.0.0","name":"w"}`)(r) }, 1, "GC needs cniVersion 1.1.0"},
		"STATUS too early":    {func(r *cniapi.Request) { r.Command = cniapi.Status; conf(`{"cniVersion":"1.0.0","name":"w"}`)(r) }, 1, "STATUS needs"},
		"prevResult type":     {prev(`7`), 6, "decoding network configuration"},
		"prevResult field":    {prev(`{"cniVersion":"0.4.0","ips":7}`), 6, "decoding prevResult"},
		"prevResult null":     {prev(`{"cniVersion":"0.4.0","interfaces":[null]}`), 7, "prevResult.interfaces has a null entry"},
		"prevResult null IP":  {prev(`{"cniVersion":"0.4.0","ips":[null]}`), 7, "prevResult.ips has a null entry"},
		"prevResult address":  {prev(`{"cniVersion":"0.4.0","ips":[{"version":"4"}]}`), 7, "no address"},
		"prevResult index":    {prev(`{"cniVersion":"0.4.0","ips":[{"version":"4","address":"192.0.2.1/24","interface":3}]}`), 7, "no interface"},
		"valid attachments":   {conf(`{"cniVersion":"1.1.0","name":"w","cni.dev/valid-attachments":{}}`), 6, "decoding network configuration"},
		"fields of a runtime": {conf(`{"cniVersion":"1.1.0","name":"w","runtimeConfig":{"x":1},"socket":"/x"}`), 0, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			req := call(cniapi.Add, "c1")
			tc.change(&req)
			body, err := json.Marshal(req)
			if err != nil {
				t.Fatal(err)
			}
			_, cniErr := decodeRequest(body)
			if tc.code == 0 {
				if cniErr != nil {
					t.Error(cniErr)
				}
				return
			}
			wantCode(t, cniErr, tc.code, tc.text)
		})
	}
	for name, body := range map[string]string{
		"nothing":       "",
		"garbage":       "\x00\xff{",
		"no object":     `"ADD"`,
		"unknown field": `{"command":"ADD","netNamespace":"/x","config":{}}`,
		"two values":    `{"command":"ADD","config":{"cniVersion":"1.0.0","name":"w"}} {}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, cniErr := decodeRequest([]byte(body))
			wantCode(t, cniErr, types.ErrDecodingFailure, "decoding request")
		})
	}
}

// FuzzRequest feeds anything to a whole server and expects an answer, and that
// a refused request leaves nothing behind.
func FuzzRequest(f *testing.F) {
	for _, command := range []cniapi.Command{cniapi.Add, cniapi.Del, cniapi.Check, cniapi.GC, cniapi.Status} {
		for _, config := range []string{
			config110, `{"cniVersion":"0.3.1","name":"w"}`, `{}`,
			`{"cniVersion":"0.4.0","name":"w","prevResult":{"cniVersion":"0.4.0","interfaces":[{"name":"x"}],"ips":[{"version":"6","address":"2001:db8::1/64","interface":0}],"routes":[{"dst":"::/0"}]}}`,
			`{"cniVersion":"1.0.0","name":"w","prevResult":{"cniVersion":"1.0.0","ips":[{"address":"192.0.2.1/24"}],"dns":{"search":["a"]}}}`,
			`{"cniVersion":"1.1.0","name":"w","prevResult":{"cniVersion":"0.2.0","ip4":{"ip":"192.0.2.1/24","routes":[{"dst":"0.0.0.0/0"}]}}}`,
			`{"cniVersion":"1.1.0","name":"w","cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]}`,
		} {
			req := call(command, "c1")
			req.Config = json.RawMessage(config)
			body, err := json.Marshal(req)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(body)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, cniErr := decodeRequest(body); cniErr != nil {
			if cniErr.Msg == "" || cniErr.Code == 0 {
				t.Errorf("error %+v says nothing", cniErr)
			}
			return
		}
		n := newNode(t, newWorld("/ns/c1"))
		result, cniErr := n.answer(t.Context(), body)
		if cniErr == nil && !json.Valid(result) {
			t.Errorf("result is no JSON: %q", result)
		}
		if cniErr != nil && len(n.dump(t)) != 0 {
			t.Errorf("failed with %v but left %v", cniErr, n.dump(t))
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"containerID":"c","ifname":"eth0","netns":"/ns","mac":"02:00:00:00:00:01","addresses":[{"address":"10.0.0.2","gateway":"10.0.0.1"}]}`))
	f.Add([]byte(`{"mac":"02:00:00:00:00:01","addresses":[{"address":""}]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := decodeRecord(data)
		if err != nil {
			return
		}
		again, err := encodeRecord(a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := decodeRecord(again)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "record written and read", a, b)
	})
}
