// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/waymark-net/waymark/test/lab/binaries"
)

// Params say where to build.
type Params struct {
	// Source is the root of the repository, CacheDir the lab's cache.
	Source, CacheDir string
	// Building, if set, is told before a build that takes minutes.
	Building func(what string)
	// WithoutSCTP changes suites for a kernel that has no SCTP.
	WithoutSCTP bool
}

// Programs are those of one suite.
type Programs struct {
	// Version of the suite's module.
	Version string
	// Suite is the suite as a program, Agnhost the program of the image that its
	// Pods run; CRD the file with the definitions of the API that is tested, if
	// it is none of Kubernetes' own.
	Suite, Agnhost, CRD string
	// Changed says what was changed in the suite; empty when nothing was.
	Changed []string
}

// module is where the module of the Kubernetes programs is in the repository.
const module = "test/upstream/kubernetes"

// Kubernetes builds the end-to-end suite of Kubernetes and agnhost.
func Kubernetes(ctx context.Context, p Params) (Programs, error) {
	source := filepath.Join(p.Source, module)
	key, version, err := binaries.Identify(source, "programs.go")
	if err != nil {
		return Programs{}, err
	}
	r := binaries.Recipe{
		Dir:    filepath.Join(p.CacheDir, "upstream", "kubernetes-"+version+"-"+key),
		Lock:   filepath.Join(p.CacheDir, "upstream.lock"),
		Making: func() { p.building("building the end-to-end suite of Kubernetes: about five minutes, once") },
		Make: func(ctx context.Context, dir string, log *os.File) error {
			flags := binaries.VersionFlags(version)
			return errors.Join(
				binaries.Go(ctx, source, log, "test", "-c", "-trimpath", "-ldflags", flags,
					"-o", filepath.Join(dir, "e2e.test"), "k8s.io/kubernetes/test/e2e"),
				binaries.Go(ctx, source, log, "build", "-trimpath", "-ldflags", flags,
					"-o", filepath.Join(dir, "agnhost"), "k8s.io/kubernetes/test/images/agnhost"))
		},
	}
	if err := r.Provide(ctx); err != nil {
		return Programs{}, fmt.Errorf("build the end-to-end suite of Kubernetes %s: %w", version, err)
	}
	return Programs{
		Version: version, Suite: filepath.Join(r.Dir, "e2e.test"), Agnhost: filepath.Join(r.Dir, "agnhost"),
	}, nil
}

func (p Params) building(what string) {
	if p.Building != nil {
		p.Building(what)
	}
}
