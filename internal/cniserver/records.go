// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/ipam"
)

// attachment is the content of a record.
type attachment struct {
	PodInterface
	// Network is the name of the CNI network it was added to; empty when the
	// record was written again from the switch.
	Network string
	// Gateways belong to Addresses, index by index.
	Gateways []netip.Addr
}

func (a attachment) owner() ipam.Owner {
	return ipam.Owner{ContainerID: a.ContainerID, IfName: a.IfName}
}

// link is the veth pair of the attachment.
func (a attachment) link(set Settings) podlink.Link {
	link := podlink.Link{
		HostInterface: a.HostInterface,
		Alias:         a.PodNamespace + "/" + a.PodName,
		NetNS:         a.NetNS,
		IfName:        a.IfName,
		MAC:           a.MAC,
		MTU:           set.MTU,
		SendMTU:       set.SendMTU,
		HostMTU:       set.HostMTU,
		GatewayMAC:    set.GatewayMAC,
		Datapath:      set.Datapath,
	}
	for i, addr := range a.Addresses {
		link.Addresses = append(link.Addresses, podlink.Address{Addr: addr, Gateway: a.Gateways[i]})
	}
	return link
}

// recordFile is the JSON of a record.
type recordFile struct {
	Network      string          `json:"network,omitempty"`
	ContainerID  string          `json:"containerID"`
	IfName       string          `json:"ifname"`
	PodNamespace string          `json:"podNamespace"`
	PodName      string          `json:"podName"`
	PodUID       string          `json:"podUID,omitempty"`
	NetNS        string          `json:"netns"`
	MAC          string          `json:"mac"`
	Addresses    []recordAddress `json:"addresses"`
}

type recordAddress struct {
	Address netip.Addr `json:"address"`
	Gateway netip.Addr `json:"gateway"`
}

func encodeRecord(a attachment) ([]byte, error) {
	f := recordFile{
		Network: a.Network, ContainerID: a.ContainerID, IfName: a.IfName,
		PodNamespace: a.PodNamespace, PodName: a.PodName, PodUID: a.PodUID,
		NetNS: a.NetNS, MAC: a.MAC.String(),
	}
	for i, addr := range a.Addresses {
		f.Addresses = append(f.Addresses, recordAddress{Address: addr, Gateway: a.Gateways[i]})
	}
	return json.MarshalIndent(f, "", "  ")
}

func decodeRecord(data []byte) (attachment, error) {
	var f recordFile
	if err := json.Unmarshal(data, &f); err != nil {
		return attachment{}, err
	}
	mac, err := net.ParseMAC(f.MAC)
	if err != nil {
		return attachment{}, err
	}
	if f.ContainerID == "" || f.IfName == "" || f.NetNS == "" || len(f.Addresses) == 0 {
		return attachment{}, errors.New("incomplete")
	}
	a := attachment{
		PodInterface: PodInterface{
			ContainerID: f.ContainerID, IfName: f.IfName,
			PodNamespace: f.PodNamespace, PodName: f.PodName, PodUID: f.PodUID,
			NetNS: f.NetNS, HostInterface: podlink.HostInterface(f.ContainerID, f.IfName), MAC: mac,
		},
		Network: f.Network,
	}
	for _, addr := range f.Addresses {
		if !addr.Address.IsValid() || !addr.Gateway.IsValid() {
			return attachment{}, errors.New("incomplete")
		}
		a.Addresses = append(a.Addresses, addr.Address)
		a.Gateways = append(a.Gateways, addr.Gateway)
	}
	return a, nil
}

// records are the files HOSTINTERFACE.json of a directory. Each is written and
// removed by the holder of its attachment's lock.
type records struct{ dir string }

const (
	recordSuffix = ".json"
	tempSuffix   = ".tmp"
)

func (r records) path(hostInterface string) string {
	return filepath.Join(r.dir, hostInterface+recordSuffix)
}

// put writes a record; a reader sees the old or the new one. It is not synced:
// a crash of the machine ends the attachment itself.
func (r records) put(a attachment) error {
	data, err := encodeRecord(a)
	if err == nil {
		err = os.MkdirAll(r.dir, 0o755)
	}
	path := r.path(a.HostInterface)
	if err == nil {
		err = os.WriteFile(path+tempSuffix, data, 0o600)
	}
	if err == nil {
		err = os.Rename(path+tempSuffix, path)
	}
	if err != nil {
		return fmt.Errorf("writing record of %s: %w", a.owner(), err)
	}
	return nil
}

// get reads a record. One that cannot be understood is as good as none.
func (r records) get(hostInterface string) (a attachment, found bool, err error) {
	data, err := os.ReadFile(r.path(hostInterface))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return attachment{}, false, nil
	case err != nil:
		return attachment{}, false, fmt.Errorf("reading record: %w", err)
	}
	a, err = decodeRecord(data)
	if err != nil || a.HostInterface != hostInterface {
		return attachment{}, false, nil
	}
	return a, true, nil
}

// remove removes a record, readable or not, if there is one.
func (r records) remove(hostInterface string) error {
	var errs []error
	for _, path := range []string{r.path(hostInterface), r.path(hostInterface) + tempSuffix} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing record: %w", err)
	}
	return nil
}

// list returns all records, sorted by HostInterface, and the host interfaces of
// those files that are no record.
func (r records) list() (all []attachment, unreadable []string, err error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("listing records: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), recordSuffix)
		if !ok {
			continue
		}
		a, found, err := r.get(name)
		switch {
		case err != nil:
			return nil, nil, err
		case found:
			all = append(all, a)
		default:
			unreadable = append(unreadable, name)
		}
	}
	return all, unreadable, nil
}
