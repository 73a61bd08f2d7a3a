// SPDX-License-Identifier: Apache-2.0

package hostfw

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What kube-proxy calls its own, in the modes nftables, iptables and ipvs.
const (
	kubeProxyTable     = "kube-proxy"
	kubeProxyChain     = "KUBE-SERVICES"
	kubeProxyInterface = "kube-ipvs0"
)

// KubeProxyRules says in words which rules of kube-proxy it finds on the host,
// in either family and of any of its modes; none: nil. It changes nothing, and
// returns what it found with an error, too.
func KubeProxyRules() ([]string, error) {
	var finder iptFinder
	var found []string
	var errs []error
	note := func(there bool, err error, format string, args ...any) {
		if err != nil {
			errs = append(errs, err)
		} else if there {
			found = append(found, fmt.Sprintf(format, args...))
		}
	}
	for _, fam := range nftFamilies {
		there, err := hasNFT(unix.NFT_MSG_GETTABLE, fam.number, nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated(kubeProxyTable)))
		note(there, err, "nftables table %s %s", fam.ip, kubeProxyTable)
	}
	for i, fam := range families {
		// The nft kind of iptables keeps its rules in tables of nftables.
		there, err := hasNFT(unix.NFT_MSG_GETCHAIN, nftFamilies[i].number,
			nl.NewRtAttr(unix.NFTA_CHAIN_TABLE, nl.ZeroTerminated("nat")),
			nl.NewRtAttr(unix.NFTA_CHAIN_NAME, nl.ZeroTerminated(kubeProxyChain)))
		note(there, err, "chain %s of %s (nft), table nat", kubeProxyChain, fam.name)
		there, err = legacyHas(&finder, i, kubeProxyChain)
		note(there, err, "chain %s of %s (legacy), table nat", kubeProxyChain, fam.name)
	}
	_, err := netlink.LinkByName(kubeProxyInterface)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		note(false, nil, "")
	} else {
		note(err == nil, err, "interface %s", kubeProxyInterface)
	}
	if err := errors.Join(errs...); err != nil {
		return found, fmt.Errorf("looking for rules of kube-proxy: %w", err)
	}
	return found, nil
}

// hasNFT asks nftables for an object by its name.
func hasNFT(message int, family uint8, attrs ...*nl.RtAttr) (bool, error) {
	req := netfilterRequest(unix.NFNL_SUBSYS_NFTABLES, message, 0, family)
	for _, a := range attrs {
		req.AddData(a)
	}
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return false, nil // the latter two: a kernel without nftables
	}
	return false, fmt.Errorf("asking nftables: %w", err)
}

// legacyHas looks for a chain in the table nat of legacy iptables, without
// bringing the table into being.
func legacyHas(finder *iptFinder, family int, chain string) (bool, error) {
	fam := families[family]
	tables, err := os.ReadFile(fam.names)
	if err != nil || !slices.Contains(strings.Fields(string(tables)), "nat") {
		return false, nil
	}
	for _, name := range []string{fam.name + "-legacy", fam.name} {
		i, err := finder.open(name, fam.proto)
		if errors.Is(err, exec.ErrNotFound) || err == nil && !i.legacy {
			continue
		}
		there := false
		if err == nil {
			there, err = i.client.ChainExists("nat", chain)
		}
		if err != nil {
			return false, fmt.Errorf("%s: looking for chain %s: %w", name, chain, err)
		}
		return there, nil
	}
	return false, nil
}
