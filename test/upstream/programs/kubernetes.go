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
	// Suite is the suite as a program, Ginkgo what runs several of it at once,
	// if it can; CRD the file with the definitions of the API that is tested, if
	// it is none of Kubernetes' own.
	Suite, Ginkgo, CRD string
	// Agnhost is the program of the image that most of the suite's Pods run,
	// OutOfWindow that of a server which sends TCP segments out of the window
	// (kubernetes/kubernetes#74839).
	Agnhost, OutOfWindow string
	// CoreDNS is the name server that this image has too.
	CoreDNS string
	// Changed says what was changed in the suite; empty when nothing was.
	Changed []string
}

// Where the modules of the Kubernetes programs, and of the lab's name server,
// are in the repository.
const (
	module     = "test/upstream/kubernetes"
	nameServer = "test/lab/coredns"
)

// Names of programs in the cache.
const (
	suiteProgram = "e2e.test"
	ginkgo       = "ginkgo"
	agnhost      = "agnhost"
	outOfWindow  = "out-of-window"
)

// helpers are the programs beside the suite, with the packages they are built
// from.
var helpers = map[string]string{
	ginkgo:      "github.com/onsi/ginkgo/v2/ginkgo",
	agnhost:     "k8s.io/kubernetes/test/images/agnhost",
	outOfWindow: "k8s.io/kubernetes/test/images/regression-issue-74839",
}

// Kubernetes builds the end-to-end suite of Kubernetes, Ginkgo, and the programs
// of its test images.
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
			built := []error{binaries.Go(ctx, source, log, "test", "-c", "-trimpath", "-ldflags", flags,
				"-o", filepath.Join(dir, suiteProgram), "k8s.io/kubernetes/test/e2e")}
			for name, path := range helpers {
				built = append(built, binaries.Go(ctx, source, log, "build", "-trimpath", "-ldflags", flags, "-o", filepath.Join(dir, name), path))
			}
			return errors.Join(built...)
		},
	}
	if err := r.Provide(ctx); err != nil {
		return Programs{}, fmt.Errorf("build the end-to-end suite of Kubernetes %s: %w", version, err)
	}
	names, err := binaries.CoreDNS(ctx, binaries.Params{
		Source: filepath.Join(p.Source, nameServer), CacheDir: p.CacheDir,
		Building: func() { p.building("building CoreDNS: about two minutes, once") },
	})
	if err != nil {
		return Programs{}, err
	}
	return Programs{
		Version: version, Suite: filepath.Join(r.Dir, suiteProgram), Ginkgo: filepath.Join(r.Dir, ginkgo),
		Agnhost: filepath.Join(r.Dir, agnhost), OutOfWindow: filepath.Join(r.Dir, outOfWindow), CoreDNS: names,
	}, nil
}

func (p Params) building(what string) {
	if p.Building != nil {
		p.Building(what)
	}
}
