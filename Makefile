# incumbent: two commands do everything, `make demo` and `make test`; on real clusters `make homelab` and `make test-homelab`.
SHELL := /bin/bash
PYTHON_IN := .venv/bin/python

.PHONY: help setup tools demo ui test check docs picture lock homelab homelab-build homelab-down homelab-ui test-homelab test-homelab-short

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

setup: ## install what is missing into the project's own folders
	@./testbeds/setup.sh

tools: setup ## find, fetch or build the programs that tests run, so that nothing later needs a network
	@$(PYTHON_IN) -m testbeds.common.tools
	@$(PYTHON_IN) -m tests.platform.programs

demo: setup ## the whole story in the sandbox: five versions, two champions, one rollback, two refusals
	@$(PYTHON_IN) -m testbeds.sandbox demo

ui: setup ## leave the sandbox and the Dagster UI running, sensor on
	@$(PYTHON_IN) -m testbeds.sandbox ui

test: tools ## all tests
	@$(PYTHON_IN) -m pytest -q

homelab: setup ## two k3d clusters with Argo CD, MLflow, monitoring and two models; stays until homelab-down
	@$(PYTHON_IN) -m testbeds.homelab up

homelab-build: setup ## build ahead what the homelab needs; up to half an hour the first time
	@$(PYTHON_IN) -m testbeds.homelab build

homelab-ui: setup ## the Dagster UI on the running homelab, sensor on
	@$(PYTHON_IN) -m testbeds.homelab ui

homelab-down: setup ## end the homelab and leave nothing of it behind
	@$(PYTHON_IN) -m testbeds.homelab down

test-homelab: setup ## all stories and faults on real clusters; an hour on 2 cores
	@$(PYTHON_IN) -m pytest -q --testbed homelab tests/homelab tests/scenarios/test_story.py tests/contract

# What fits into a CI run that also builds all of it.
test-homelab-short: setup ## the story of five versions, the platform, rights and the contract on real clusters; 15 minutes
	@$(PYTHON_IN) -m pytest -q --testbed homelab tests/homelab/test_platform.py tests/homelab/test_rights.py tests/homelab/test_runtime.py \
	  tests/scenarios/test_story.py::test_the_story_of_five_versions_comes_true tests/contract

check: setup ## lint, types, import contracts and definitions
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@.venv/bin/dagster definitions validate -m orchestration.definitions

docs: setup ## the documentation site, in .state/docs/site; a warning or a broken link fails
	@.venv/bin/sphinx-build --fail-on-warning --keep-going --quiet --fresh-env -c docs -d .state/docs/doctrees . .state/docs/site
	@echo "$(CURDIR)/.state/docs/site/index.html"

picture: setup ## record `make demo` again and draw the README's picture of it
	@$(PYTHON_IN) -m testbeds.recording

lock: setup ## make the lock again, without download addresses
	@$$(command -v uv || echo .tools/uv/bin/uv) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --group dev --group sandbox --group docs pyproject.toml -o requirements.lock
