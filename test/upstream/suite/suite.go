// SPDX-License-Identifier: Apache-2.0

package suite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/waymark-net/waymark/test/lab/cluster"
	"github.com/waymark-net/waymark/test/lab/host"
	"github.com/waymark-net/waymark/test/lab/image"
	"github.com/waymark-net/waymark/test/lab/topology"
	"github.com/waymark-net/waymark/test/upstream/programs"
	"github.com/waymark-net/waymark/test/upstream/specs"
)

// Run says which specs to run and where to write.
type Run struct {
	// Focus and Skip are regular expressions for names of specs, or empty.
	Focus, Skip string
	// Procs is how many specs run at once, where a suite can; 0 is its own choice.
	Procs int
	// Dir is for what the suite writes.
	Dir string
	// Progress is told each spec; nothing when nil.
	Progress io.Writer
}

// Suite is an upstream suite that can be run.
type Suite struct {
	// Name is the suite's on the command line; Title says in words what it is,
	// with its version.
	Name, Title string
	// Images are archives that the lab's nodes must have.
	Images []string
	// Changed says what was changed in the suite; empty when nothing was.
	Changed []string

	kind     kind
	programs programs.Programs
	sctp     bool
}

// kind is what differs between suites.
type kind struct {
	title string
	// images are those that the suite's Pods run.
	images func(programs.Programs) []image.Packed
	// changed says what is other than upstream, whatever the machine.
	changed []string
	// racks is how many the lab must have at least, each of them a zone.
	racks int
	// nodes is how many the lab must have at least for the whole suite.
	nodes int
	// procs is how many specs run at once; 0 is one.
	procs int
	build func(context.Context, programs.Params) (programs.Programs, error)
	run   func(s *Suite, ctx context.Context, lab *cluster.Lab, r Run) ([]specs.Spec, error)
}

// noSCTP is why a spec about SCTP is left out.
const noSCTP = "the kernel of this machine has no SCTP"

var kinds = map[string]kind{
	"netpol": {
		title:  "NetworkPolicy specs of Kubernetes",
		images: func(p programs.Programs) []image.Packed { return []image.Packed{agnhostImage(p, "2.56")} },
		build:  programs.Kubernetes,
		run:    (*Suite).runNetpol,
	},
	"services": {
		title:  "Service specs of Kubernetes",
		images: serviceImages,
		changed: []string{
			"nginx and pause are agnhost, busybox and dig those of Debian",
		},
		racks: 3,
		nodes: 6, // specs of traffic distribution want two in each of three zones
		procs: 3,
		build: programs.Kubernetes,
		run:   (*Suite).runServices,
	},
	"cnp": {
		title:  "conformance suite of network-policy-api",
		images: func(p programs.Programs) []image.Packed { return []image.Packed{agnhostImage(p, "2.45")} },
		build:  programs.PolicyAPI,
		run:    (*Suite).runCNP,
	},
}

// Names are the suites, sorted.
func Names() []string {
	var names []string
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Prepare builds the programs and images of a suite, or finds them in the
// cache. progress is told what takes long; it may be nil.
func Prepare(ctx context.Context, name, source string, progress func(string)) (*Suite, error) {
	k, ok := kinds[name]
	if !ok {
		return nil, fmt.Errorf("suite %q: want one of %s", name, strings.Join(Names(), ", "))
	}
	s := &Suite{Name: name, kind: k, sctp: programs.HasSCTP()}
	var err error
	s.programs, err = k.build(ctx, programs.Params{
		Source: source, CacheDir: cluster.CacheDir(), Building: progress, WithoutSCTP: !s.sctp,
	})
	if err != nil {
		return nil, err
	}
	built, err := image.BuildPacked(ctx, image.Options{Source: source, Progress: progress}, k.images(s.programs))
	if err != nil {
		return nil, err
	}
	for _, b := range built {
		s.Images = append(s.Images, b.Archive)
	}
	s.Title, s.Changed = k.title+" "+s.programs.Version, slices.Concat(k.changed, s.programs.Changed)
	return s, nil
}

// Describe puts what most of the suite needs into the description of a lab.
func (s *Suite) Describe(d *cluster.Description) {
	d.Images = append(d.Images, s.Images...)
	d.Network.Racks = max(d.Network.Racks, s.kind.racks)
}

// DescribeWhole is Describe for all of the suite.
func (s *Suite) DescribeWhole(d *cluster.Description) {
	s.Describe(d)
	d.Network.Nodes = max(d.Network.Nodes, s.kind.nodes)
}

// Run runs the suite. The error says that it could not be run or read; what
// specs say of the cluster is in the specs.
func (s *Suite) Run(ctx context.Context, lab *cluster.Lab, r Run) ([]specs.Spec, error) {
	for _, expression := range []string{r.Focus, r.Skip} {
		if _, err := regexp.Compile(expression); err != nil {
			return nil, err
		}
	}
	dir, err := filepath.Abs(r.Dir)
	if err != nil {
		return nil, err
	}
	r.Dir = dir
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return nil, err
	}
	found, err := s.kind.run(s, ctx, lab, r)
	if err != nil {
		return nil, fmt.Errorf("suite %s: %w", s.Name, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("suite %s: no spec is selected", s.Name)
	}
	return found, nil
}

// execute runs a program in the lab that runs the suite; that specs fail is no
// error of it.
func (s *Suite) execute(ctx context.Context, lab *cluster.Lab, out io.Writer, argv ...string) error {
	h, err := lab.Host(topology.ControlPlane)
	if err != nil {
		return err
	}
	err = h.Run(ctx, host.Cmd{
		Argv: argv, Env: []string{"KUBECONFIG=" + lab.KubeConfig()},
		Stdout: out, Stderr: out,
	})
	var exit *host.ExitError
	if errors.As(err, &exit) && exit.Signal == 0 && ctx.Err() == nil {
		return nil
	}
	return errors.Join(err, ctx.Err())
}
