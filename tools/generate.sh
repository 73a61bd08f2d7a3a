#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Writes what is generated: the deep copies of api/, the custom resource
# definitions, the code of the protobuf files, and the rendered manifests. Run from anywhere; takes the root to
# write to as an argument (a copy of the repository, for the test that all of
# it is current).
set -eu

cd "${1:-$(dirname "$0")/..}"
tool="go tool -modfile=tools/go.mod"

$tool controller-gen object:headerFile=tools/boilerplate.go.txt paths=./api/...
$tool controller-gen crd paths=./api/... output:crd:dir=manifests/base/crds
go -C tools run ./protogen "$PWD" api/policystream/v1/policy.proto
for overlay in manifests/overlays/*/; do
	name=$(basename "$overlay")
	$tool kustomize build "$overlay" >"manifests/waymark-$name.yaml.tmp"
	mv "manifests/waymark-$name.yaml.tmp" "manifests/waymark-$name.yaml"
done
