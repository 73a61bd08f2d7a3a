// SPDX-License-Identifier: Apache-2.0

package cniserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/waymark-net/waymark/internal/cniapi"
	"github.com/waymark-net/waymark/internal/podlink"
	"github.com/waymark-net/waymark/ipam"
)

// request is a decoded and validated call. What its command does not need may
// be empty.
type request struct {
	command cniapi.Command
	owner   ipam.Owner
	host    string // name of the host's end
	netns   string
	pod     podIdentity

	cniVersion string
	network    string
	prev       *current.Result
	valid      []types.GCAttachment
}

// podIdentity is what the runtime says in CNI_ARGS about the Pod.
type podIdentity struct {
	namespace, name, uid string
}

// Limits of what a runtime can reasonably send; external IDs and file names
// are made of these.
const (
	maxContainerID = 128
	maxPath        = 4096
)

// decodeRequest reads one request and validates all of it. Errors carry the
// codes of the specification: 6 for what cannot be read, 1 for a version that
// is not supported, 4 for the environment, 7 for the configuration.
func decodeRequest(data []byte) (*request, *types.Error) {
	var wire cniapi.Request
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&wire); err != nil {
		return nil, cniError(types.ErrDecodingFailure, "decoding request: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, cniError(types.ErrDecodingFailure, "decoding request: more than one JSON value")
	}
	req := &request{command: wire.Command, netns: wire.NetNS}
	if err := req.readConfig(wire.Config); err != nil {
		return nil, err
	}
	if err := req.checkCommand(); err != nil {
		return nil, err
	}
	if req.command == cniapi.GC || req.command == cniapi.Status {
		return req, nil
	}
	if err := req.readContainer(wire); err != nil {
		return nil, err
	}
	return req, nil
}

// checkCommand says whether the command exists in the version of the configuration.
func (r *request) checkCommand() *types.Error {
	since, ok := map[cniapi.Command]string{
		cniapi.Add: "0.1.0", cniapi.Del: "0.1.0", cniapi.Check: "0.4.0",
		cniapi.GC: "1.1.0", cniapi.Status: "1.1.0",
	}[r.command]
	if !ok {
		return cniError(types.ErrInvalidEnvironmentVariables, "unknown command %q", r.command)
	}
	if ok, err := version.GreaterThanOrEqualTo(r.cniVersion, since); err != nil || !ok {
		return cniError(types.ErrIncompatibleCNIVersion, "%s needs cniVersion %s, the configuration has %s", r.command, since, r.cniVersion)
	}
	return nil
}

// readConfig reads the network configuration. Fields that are not ours are let
// pass: runtimes add theirs.
func (r *request) readConfig(data []byte) *types.Error {
	if len(data) == 0 {
		return cniError(types.ErrInvalidNetworkConfig, "network configuration is missing")
	}
	var conf types.PluginConf
	if err := json.Unmarshal(data, &conf); err != nil {
		return cniError(types.ErrDecodingFailure, "decoding network configuration: %v", err)
	}
	if conf.CNIVersion == "" {
		conf.CNIVersion = "0.1.0"
	}
	if !slices.Contains(cniapi.SupportedVersions(), conf.CNIVersion) {
		return cniError(types.ErrIncompatibleCNIVersion, "cniVersion %q is not supported, only %s",
			conf.CNIVersion, strings.Join(cniapi.SupportedVersions(), ", "))
	}
	if err := utils.ValidateNetworkName(conf.Name); err != nil {
		return err
	}
	prev, err := readPrevResult(&conf)
	if err != nil {
		return err
	}
	r.cniVersion, r.network, r.prev, r.valid = conf.CNIVersion, conf.Name, prev, conf.ValidAttachments
	return nil
}

func readPrevResult(conf *types.PluginConf) (*current.Result, *types.Error) {
	if conf.RawPrevResult == nil {
		return nil, nil
	}
	// The conversions between versions follow every pointer of these lists.
	for _, key := range []string{"interfaces", "ips", "routes"} {
		if list, ok := conf.RawPrevResult[key].([]any); ok && slices.Contains(list, nil) {
			return nil, cniError(types.ErrInvalidNetworkConfig, "prevResult.%s has a null entry", key)
		}
	}
	if err := version.ParsePrevResult(conf); err != nil {
		return nil, cniError(types.ErrDecodingFailure, "decoding prevResult: %v", err)
	}
	prev, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return nil, cniError(types.ErrDecodingFailure, "converting prevResult: %v", err)
	}
	for i, ip := range prev.IPs {
		if ip.Address.IP == nil || ip.Interface != nil && (*ip.Interface < 0 || *ip.Interface >= len(prev.Interfaces)) {
			return nil, cniError(types.ErrInvalidNetworkConfig, "prevResult.ips[%d] has no address or no interface", i)
		}
	}
	return prev, nil
}

// readContainer reads what ADD, DEL and CHECK say of the container.
func (r *request) readContainer(wire cniapi.Request) *types.Error {
	switch {
	case wire.ContainerID == "":
		return cniError(types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID is missing")
	case len(wire.ContainerID) > maxContainerID:
		return cniError(types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID is longer than %d", maxContainerID)
	}
	if err := utils.ValidateContainerID(wire.ContainerID); err != nil {
		return err
	}
	if err := utils.ValidateInterfaceName(wire.IfName); err != nil {
		return err
	}
	r.owner = ipam.Owner{ContainerID: wire.ContainerID, IfName: wire.IfName}
	r.host = podlink.HostInterface(wire.ContainerID, wire.IfName)
	if r.command == cniapi.Del {
		return nil // the namespace may be gone, the arguments do not matter
	}
	if !filepath.IsAbs(wire.NetNS) || len(wire.NetNS) > maxPath || strings.ContainsRune(wire.NetNS, 0) {
		return cniError(types.ErrInvalidEnvironmentVariables, "CNI_NETNS %q is not an absolute path", wire.NetNS)
	}
	if r.command == cniapi.Check {
		if r.prev == nil {
			return cniError(types.ErrInvalidNetworkConfig, "CHECK needs prevResult")
		}
		return nil
	}
	pod, err := parseArgs(wire.Args)
	if err != nil {
		return cniError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: %v", err)
	}
	r.pod = pod
	return nil
}

var (
	podName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	podUID  = regexp.MustCompile(`^[-a-zA-Z0-9_.]{0,128}$`)
)

// parseArgs reads KEY=VALUE;KEY=VALUE and checks the names that Kubernetes gave
// to the Pod (RFC 1123). Other keys are the runtime's business.
func parseArgs(args string) (podIdentity, error) {
	values := map[string]string{}
	for pair := range strings.SplitSeq(args, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return podIdentity{}, fmt.Errorf("%q is not KEY=VALUE", pair)
		}
		values[key] = value
	}
	pod := podIdentity{
		namespace: values["K8S_POD_NAMESPACE"],
		name:      values["K8S_POD_NAME"],
		uid:       values["K8S_POD_UID"],
	}
	for _, v := range []struct {
		key, value string
		allowed    *regexp.Regexp
	}{
		{"K8S_POD_NAMESPACE", pod.namespace, podName},
		{"K8S_POD_NAME", pod.name, podName},
		{"K8S_POD_UID", pod.uid, podUID},
	} {
		if !v.allowed.MatchString(v.value) {
			return podIdentity{}, fmt.Errorf("%s %q is missing or invalid", v.key, v.value)
		}
	}
	return pod, nil
}
