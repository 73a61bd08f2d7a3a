// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/waymark-net/waymark/test/lab/binaries"
)

const (
	policyModule  = "sigs.k8s.io/network-policy-api"
	policyVersion = "v0.2.0"
	// policyCRD is of the experimental channel: the suite has policies with node
	// peers, which the standard one does not have.
	policyCRD = "config/crd/experimental/policy.networking.k8s.io_clusternetworkpolicies.yaml"
)

// PolicyAPI builds the conformance suite of network-policy-api from a copy of
// its module, and agnhost of [Kubernetes]. Without SCTP the copy is changed
// before: no Pod has a container that serves SCTP (it would never be ready),
// and a connection over SCTP that a test wants to try is not tried but said in
// the log ([LeftOut]); so tests of several protocols test the others.
func PolicyAPI(ctx context.Context, p Params) (Programs, error) {
	built, err := Kubernetes(ctx, p)
	if err != nil {
		return Programs{}, err
	}
	name := "network-policy-api-" + policyVersion
	var changed []string
	if p.WithoutSCTP {
		name += "-without-sctp-1" // the number is that of the changes
		changed = []string{
			"the Pods' containers that serve SCTP are left out",
			"connections over SCTP are not tried",
		}
	}
	r := binaries.Recipe{
		Dir:    filepath.Join(p.CacheDir, "upstream", name),
		Lock:   filepath.Join(p.CacheDir, "upstream.lock"),
		Making: func() { p.building("building the conformance suite of network-policy-api: about two minutes, once") },
		Make: func(ctx context.Context, dir string, log *os.File) error {
			return buildPolicyAPI(ctx, p.WithoutSCTP, dir, log)
		},
	}
	if err := r.Provide(ctx); err != nil {
		return Programs{}, fmt.Errorf("build the conformance suite of network-policy-api %s: %w", policyVersion, err)
	}
	return Programs{
		Version: policyVersion, Suite: filepath.Join(r.Dir, "conformance.test"), Agnhost: built.Agnhost, CoreDNS: built.CoreDNS,
		CRD: filepath.Join(r.Dir, "crd.yaml"), Changed: changed,
	}, nil
}

func buildPolicyAPI(ctx context.Context, withoutSCTP bool, dir string, log *os.File) error {
	module, err := download(ctx, dir, log)
	if err != nil {
		return err
	}
	source := filepath.Join(dir, "source")
	if err := os.CopyFS(source, os.DirFS(module)); err != nil {
		return err
	}
	if withoutSCTP {
		for file, change := range changes {
			if err := edit(filepath.Join(source, file), change); err != nil {
				return err
			}
		}
	}
	if err := binaries.Go(ctx, source, log, "test", "-c", "-trimpath", "-ldflags=-s -w",
		"-o", filepath.Join(dir, "conformance.test"), "./conformance"); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(source, policyCRD), filepath.Join(dir, "crd.yaml")); err != nil {
		return err
	}
	return os.RemoveAll(source)
}

// download returns where the module is in Go's cache, verified by its checksum
// database. dir is any folder outside of a module.
func download(ctx context.Context, dir string, log *os.File) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", policyModule+"@"+policyVersion)
	cmd.Dir, cmd.Stderr = dir, log
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	out, err := cmd.Output()
	var answer struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &answer); err == nil {
		err = jsonErr
	}
	if err != nil {
		return "", fmt.Errorf("download %s %s: %w %s", policyModule, policyVersion, err, answer.Error)
	}
	return answer.Dir, nil
}

// edit changes a file of the copy, whose mode is that of Go's cache.
func edit(path string, change func(string) (string, error)) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := change(string(text))
	if err != nil {
		return fmt.Errorf("change %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(changed), 0o644)
}
