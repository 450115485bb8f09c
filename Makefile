# incumbent: `make demo` and `make test` are all that most people need; `make help` explains the rest.
SHELL := /bin/bash
PYTHON_IN := .venv/bin/python
PYTEST := $(PYTHON_IN) -m pytest -q
# Test processes: one more than there are cores, because many tests wait, and four at most, which keeps them all within
# 4 GiB. `make test WORKERS=0` runs the tests one after the other in one process.
WORKERS ?= $(shell cores=$$(nproc); echo $$((cores < 3 ? cores + 1 : 4)))

# Containers often set it. Without bytecode each test process compiles all tests again, which takes 12 s of a processor.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup tools packages demo ui bench test-fast test test-scenarios test-platform check lock docs picture \
  homelab homelab-build homelab-down homelab-ui dashboards test-homelab test-homelab-dagster test-homelab-short fresh

help: ## show this list
	@awk -F ':.*## ' '/^## /{printf "\n%s\n", substr($$0, 4)} /^[a-z-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

## To see it work; needs Python 3.11 to 3.14, git and make
demo: setup ## tell the story of five versions in the sandbox: two champions, one rollback, two refusals
	@$(PYTHON_IN) -m testbeds.sandbox demo

ui: setup ## keep the sandbox and the Dagster UI running, with the sensor on, until Ctrl-C
	@$(PYTHON_IN) -m testbeds.sandbox ui

## To change it; needs no more than that
check: setup ## lint, check types, import rules and Dagster's definitions
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/dagster definitions validate -m orchestration.definitions

test-fast: setup ## run the tests of pure code, as after each edit
	@$(PYTEST) -n $(WORKERS) --target fast

test: tools ## run the tests that need neither Go, root nor Docker, including the fast ones and the story; with WORKERS=0 serially
	@$(PYTEST) -n $(WORKERS) --target test

test-scenarios: tools ## run the rare, long scenarios: killed runs, CI, other model servers, the pipeline without each of its guards in turn
	@$(PYTHON_IN) -m testbeds.known_servers
	@$(PYTEST) -n 2 --target scenarios

bench: tools ## measure promotions in the sandbox and what they do not depend on; ten minutes on an idle machine
	@$(PYTHON_IN) -m testbeds.bench

setup: ## install what the project runs on into .tools and .venv, if it is missing
	@./testbeds/setup.sh

tools: setup ## find or download the programs that the sandbox runs, so that nothing later needs a network
	@$(PYTHON_IN) -m testbeds.common.tools
	@$(PYTHON_IN) -m testbeds.common.mlflow_database

docs: setup ## build the documentation site in .state/docs/site; a warning or a broken link fails
	@.venv/bin/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env -c docs -d .state/docs/doctrees . .state/docs/site
	@echo "$(CURDIR)/.state/docs/site/index.html"

picture: setup ## record make demo again and draw the README's picture of it
	@$(PYTHON_IN) -m testbeds.recording

packages: setup ## build wheels and source archives of incumbent and of its model server in .state/packages
	@rm -rf .state/packages
	@$(PYTHON_IN) -m hatchling build --directory .state/packages
	@cd model_server && ../$(PYTHON_IN) -m hatchling build --directory ../.state/packages

lock: setup ## resolve the dependencies again and write requirements.lock, without download addresses
	@$$(command -v uv || echo .tools/uv/bin/uv) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --extra aws --extra cluster --extra gemini --extra sigstore --group dev --group sandbox --group docs pyproject.toml -o requirements.lock

## To check the manifests with the programs that will read them, and a real Git host; needs Go and a C compiler
test-platform: setup ## build or install promtool, kustomize, Gitea, MLflow servers and more if needed, and run the tests that use them
	@$(PYTHON_IN) -m tests.platform.programs
	@$(PYTEST) --target platform

## To run on real clusters; needs Docker, k3d and internet, or Debian 12 as root with Go
homelab: setup ## start two k3d clusters with Argo CD, MLflow, monitoring and two models; they stay until homelab-down
	@$(PYTHON_IN) -m testbeds.homelab up

homelab-build: setup ## build ahead what the homelab needs; up to half an hour the first time
	@$(PYTHON_IN) -m testbeds.homelab build

homelab-ui: setup ## run the Dagster UI on the running homelab, with the sensor on, until Ctrl-C
	@$(PYTHON_IN) -m testbeds.homelab ui

dashboards: setup ## draw the running homelab's dashboards into docs/images; needs Node 20 and Chromium, too
	@$(PYTHON_IN) -m testbeds.dashboards

homelab-down: setup ## end the homelab and remove everything it started
	@$(PYTHON_IN) -m testbeds.homelab down

test-homelab: setup ## run all stories and faults on real clusters; an hour on 2 cores
	@$(PYTEST) --testbed homelab tests/homelab tests/scenarios/test_story.py tests/scenarios/test_week.py tests/contract \
	  --ignore=tests/homelab/test_dagster_on_the_cluster.py

# The node of the control plane is six times as large, so nothing else is tested on it.
test-homelab-dagster: setup ## run the story, twenty promotions at once and faults with Dagster on the control plane; an hour on 2 cores
	@HOMELAB_GCP_MEMORY=12g $(PYTEST) --testbed homelab tests/homelab/test_dagster_on_the_cluster.py

# This part fits into a CI run that also builds everything; it leaves out what needs the controllers of other kinds, and
# alerts that take their time to fire.
test-homelab-short: setup ## run the story, the first week, the platform, rights and the contract on real clusters; 20 minutes
	@$(PYTEST) --testbed homelab tests/homelab/test_platform.py tests/homelab/test_rights.py tests/homelab/test_runtime.py \
	  tests/homelab/test_alerts_to_issues.py::test_an_oom_killed_pod_becomes_an_issue \
	  tests/scenarios/test_story.py::test_the_story_of_five_versions_comes_true tests/scenarios/test_week.py tests/contract \
	  --ignore=tests/contract/test_argo_rollouts.py --ignore=tests/contract/test_inference_services.py

## To prove the first two commands on a machine that has nothing else; needs root and debootstrap
fresh: ## run make demo and make test as an ordinary user of a minimal Debian; SUITE=bookworm, trixie or sid
	@.ci/fresh $(or $(SUITE),by-commit)
