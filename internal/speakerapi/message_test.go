// SPDX-License-Identifier: Apache-2.0

package speakerapi

import (
	"bufio"
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/waymark-net/waymark/routing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var compareValues = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

var comparePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

// fill gives every field below a value that is not its zero value, so that one
// that does not cross the socket is noticed when it is added.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Interface().(type) {
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr("fe80::1%eth0")))
		return
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.MustParsePrefix("2001:db8::/48")))
		return
	case time.Time:
		v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Field(i).CanSet() {
				t.Fatalf("%s.%s cannot cross the socket", v.Type(), v.Type().Field(i).Name)
			}
			fill(t, v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key)
		fill(t, value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("text \" \n <é>")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(6)
	default:
		t.Fatalf("%s cannot cross the socket", v.Type())
	}
}

func roundTrip(t *testing.T, m message) message {
	t.Helper()
	line, err := encode(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(bufio.NewReader(bytes.NewReader(line)))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestEverythingCrosses(t *testing.T) {
	var full message
	fill(t, reflect.ValueOf(&full).Elem())
	for name, m := range map[string]message{
		"everything": full,
		"nothing":    {},
		"zero": {
			Set: &setRequest{}, Shutdown: &shutdownRequest{}, Answer: &answer{},
			Routes: &routing.PathEvent{}, Sessions: &sessionList{},
		},
		"empty lists": {
			Set:      &setRequest{Config: routing.BGPConfig{Peers: []routing.Peer{}}},
			Sessions: &sessionList{List: []routing.SessionStatus{}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(m, roundTrip(t, m), compareValues, comparePrefixes); diff != "" {
				t.Errorf("(-sent +read):\n%s", diff)
			}
		})
	}
}

// TestOtherReleases reads what releases before and after this one write.
func TestOtherReleases(t *testing.T) {
	for name, tc := range map[string]struct {
		line string
		want message
	}{
		"first release": {
			line: `{"set":{"id":3,"config":{"Speaker":{"ASN":65101,"RouterID":"192.0.2.1"},"Peers":[{"Name":"tor","Address":"192.0.2.2","ASN":65001,"Password":"x","Timers":{"Hold":3000000000}}]}}}`,
			want: message{Set: &setRequest{ID: 3, Config: routing.BGPConfig{
				Speaker: routing.SpeakerConfig{ASN: 65101, RouterID: netip.MustParseAddr("192.0.2.1")},
				Peers: []routing.Peer{{Name: "tor", Address: netip.MustParseAddr("192.0.2.2"), ASN: 65001, Password: "x",
					Timers: routing.Timers{Hold: 3 * time.Second}}},
			}}},
		},
		"a field of the future": {
			line: `{"routes":{"Routes":null,"Converged":true,"At":"2026-01-02T03:04:05Z","Color":{"a":[1]}}}`,
			want: message{Routes: &routing.PathEvent{Converged: true, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}},
		},
		"a message of the future": {line: `{"drain":{"id":4}}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decode(bufio.NewReader(strings.NewReader(tc.line + "\n")))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, compareValues, comparePrefixes); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckHello(t *testing.T) {
	for name, tc := range map[string]struct {
		hello *hello
		want  string
	}{
		"same":            {hello: &hello{Protocol: protocol, Oldest: oldest}},
		"newer":           {hello: &hello{Protocol: protocol + 3, Oldest: protocol}},
		"much newer":      {hello: &hello{Protocol: protocol + 3, Oldest: protocol + 1}, want: "this is the older and must be upgraded"},
		"much older":      {hello: &hello{Protocol: oldest - 1}, want: "the other is the older and must be upgraded"},
		"another program": {want: "does not say which protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkHello(message{Hello: tc.hello})
			if tc.want == "" && err != nil || tc.want != "" && (!errors.Is(err, errProtocol) || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ line, want string }{
		"not JSON":    {"SSH-2.0-hunter2\n", "a message cannot be read"},
		"another":     {`["hunter2"]` + "\n", "cannot be read"},
		"wrong type":  {`{"set":{"config":{"Peers":[{"Password":{"hunter2":1}}]}}}` + "\n", "Password is no string"},
		"bad address": {`{"set":{"config":{"Peers":[{"Address":"hunter2"}]}}}` + "\n", "a message cannot be read"},
		"cut":         {`{"hello":{"protocol":1}}`, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := decode(bufio.NewReader(strings.NewReader(tc.line)))
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func TestReadLine(t *testing.T) {
	for name, tc := range map[string]struct {
		text, want string
		fails      bool
	}{
		"short":          {text: "ab\ncd\n", want: "ab\n"},
		"as long as may": {text: strings.Repeat("a", 99) + "\n", want: strings.Repeat("a", 99) + "\n"},
		"too long":       {text: strings.Repeat("a", 100) + "\n", fails: true},
		"endless":        {text: strings.Repeat("a", 1000), fails: true},
		"no end":         {text: "ab", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readLine(bufio.NewReaderSize(strings.NewReader(tc.text), 16), 100)
			if tc.fails != (err != nil) || err == nil && string(got) != tc.want {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// FuzzDecode reads anything as messages and passes on what it could read.
func FuzzDecode(f *testing.F) {
	for _, m := range []message{
		greeting(), {Answer: &answer{ID: 1, Error: "no"}}, {Shutdown: &shutdownRequest{ID: 2}},
		{Set: &setRequest{ID: 3, Config: config("tor-a")}}, {Routes: &routing.PathEvent{Routes: routes("10.10.2.0/24", "tor-a")}},
	} {
		line, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Add([]byte(`{"routes":{"Routes":[{"Prefix":"","Peers":null}]}}` + "\n" + `{"set":{"config":{"Incomplete":true}}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReader(bytes.NewReader(data))
		var known memory
		now := time.Unix(1000, 0)
		for {
			m, err := decode(r)
			if err != nil {
				return
			}
			again := roundTrip(t, m)
			line, _ := encode(m)
			if same, _ := encode(again); !bytes.Equal(line, same) {
				t.Fatalf("%q became %q", line, same)
			}
			switch {
			case m.Set != nil:
				withKept(m.Set.Config, known.wanted)
				known.set(m.Set.Config, now)
			case m.Routes != nil:
				known.hear(*m.Routes, now)
			case m.Shutdown != nil:
				known.lose(now)
			}
			known.event(now)
			idle(known.wanted, "away", now)
			now = now.Add(time.Minute)
		}
	})
}
