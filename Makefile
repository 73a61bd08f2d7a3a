# SPDX-License-Identifier: Apache-2.0
SHELL := /bin/bash
GO ?= go
TOOL := $(GO) tool -modfile=tools/go.mod
LAB := $(GO) run ./test/lab

# What `make demo` starts: MODE=noEncap|encap|hybrid|auto, FAMILIES=dual|ipv4|ipv6, NODES=3.
MODE ?= noEncap
FAMILIES ?= dual
NODES ?= 3

.PHONY: help
help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo demo-down
demo: ## Start a real cluster on this machine and show that it works (MODE, FAMILIES, NODES)
	$(GO) run ./test/demo --mode=$(MODE) --families=$(FAMILIES) --nodes=$(NODES)

demo-down: ## Remove the demo cluster
	$(LAB) down --name=demo

.PHONY: test check lint unit integration e2e
test: lint unit integration e2e ## Everything that must always hold

check: lint unit ## The fast loop: lint and unit tests

lint: ## Formatting, vet and golangci-lint with the dependency rules
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "not gofmt-ed"; exit 1; }
	$(GO) vet -tags integration,e2e,bench ./...
	$(TOOL) golangci-lint run ./...

unit: ## Unit tests with the race detector; what is random in numbers, without
	GORACE=suppressions=$(CURDIR)/tools/race.suppressions $(GO) test -race ./...
	$(GO) test -run '^TestDifferential$$' ./policy/compute

integration: ## Tests on real OVS, FRR and namespaces (root)
	$(GO) test -tags integration -count=1 -timeout 15m \
	  $$(git grep -l '^//go:build integration' -- '*_test.go' | xargs -n1 dirname | sort -u | sed 's,^,./,')

# A pattern of cases to leave out, as go test -skip takes it.
E2E_SKIP ?=
e2e: ## The end-to-end suite on the lab (root); E2E_SKIP leaves cases out
	$(GO) test -tags e2e -count=1 -timeout 40m -v $(if $(E2E_SKIP),-skip '$(E2E_SKIP)') ./test/e2e

# How many mode switches, and how often the agent is killed.
SWITCHES ?= 100
KILLS ?= 20
.PHONY: e2e-resilience
e2e-resilience: ## Every disturbance of docs/resilience.md under load (root); SWITCHES, KILLS
	$(GO) test -tags e2e -count=1 -timeout 120m -v -run '^TestResilience$$' ./test/e2e -resilience -switches $(SWITCHES) -kills $(KILLS)

# The upstream suite to run, regular expressions for names of specs to run and
# to leave out, how many specs to run at once (0: what the suite chooses),
# KUBE_PROXY=1 for nodes with kube-proxy, KEEP=1 to keep the lab.
.PHONY: e2e-upstream
SUITE ?= netpol
FOCUS ?=
SKIP ?=
PROCS ?= 0
KUBE_PROXY ?=
KEEP ?=
# By way of the environment: expressions have quotes and dollars.
e2e-upstream: export UPSTREAM_FOCUS = $(value FOCUS)
e2e-upstream: export UPSTREAM_SKIP = $(value SKIP)
e2e-upstream: ## An upstream suite on the lab (root): SUITE=netpol|cnp|services, MODE, FAMILIES, FOCUS, SKIP
	$(GO) run ./test/upstream $(SUITE) --mode=$(MODE) --families=$(FAMILIES) \
	  --focus="$$UPSTREAM_FOCUS" --skip="$$UPSTREAM_SKIP" --procs=$(PROCS) $(if $(KUBE_PROXY),--kube-proxy) $(if $(KEEP),--keep)

.PHONY: generate
generate: ## Custom resource definitions, manifests, deepcopy code, the pipeline reference
	tools/generate.sh
	$(GO) generate ./...

.PHONY: fuzz
FUZZTIME ?= 10s
fuzz: ## Every fuzz test for FUZZTIME
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; done; done

# How often everything is measured; the median counts.
ROUNDS ?= 5

.PHONY: bench-datapath bench-cni bench-policy bench-flows bench-policy-latency bench-services bench-bgp docs-tables
bench-datapath: ## Throughput, round trips and CPU beside the datapath's limit and the bridge plugin
	$(GO) test -tags bench -count=1 -timeout 60m -v -run '^TestDatapath$$' ./test/bench -rounds $(ROUNDS)

bench-cni: ## CNI ADD and DEL beside bridge and host-local
	$(GO) test -tags bench -count=1 -timeout 60m -v -run '^TestCNI$$' ./test/bench -rounds $(ROUNDS)

bench-policy: ## What it takes to compute policies for 100,000 Pods, on one thread
	$(GO) test -tags bench -count=1 -timeout 60m -v -run '^TestPolicy$$' ./test/bench -rounds $(ROUNDS)

# Addresses and rules, such as 100,1000; all sizes when empty.
SIZES ?=
bench-flows: ## Policies into Open vSwitch and out of it, beside ovs-ofctl; SIZES
	$(GO) test -tags bench -count=1 -timeout 60m -v -run '^TestFlows$$' ./test/bench -rounds $(ROUNDS) $(if $(SIZES),-sizes $(SIZES))

bench-policy-latency: ## From a policy, or a Pod's label, to the first denied packet
	$(GO) test -tags bench -count=1 -timeout 60m -v -run '^TestPolicyLatency$$' ./test/bench -rounds $(ROUNDS)

# Numbers of Services, such as 1,100; all when empty.
SERVICES ?=
bench-services: ## Connections to Services, and changes of them, beside kube-proxy; SERVICES
	$(GO) test -tags bench -count=1 -timeout 120m -v -run '^TestServices$$' ./test/bench -rounds $(ROUNDS) $(if $(SERVICES),-services $(SERVICES))

# Numbers of simulated nodes, such as 1000,10000, and of speakers; all when empty.
SIMULATED ?=
SPEAKERS ?=
bench-bgp: ## Routes of BGP into the kernel beside ip -batch, and 100 speakers that agree; SIMULATED, SPEAKERS
	$(GO) test -tags bench -count=1 -timeout 60m -v -run '^TestBGP$$' ./test/bench -rounds $(ROUNDS) \
		$(if $(SIMULATED),-nodes $(SIMULATED)) $(if $(SPEAKERS),-speakers $(SPEAKERS))

docs-tables: ## Put what runs found into the tables of the documents
	$(GO) run ./test/report/tables
