# The verbs of this project; each is what CI runs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
PINNED := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
ARGS   ?=
# A test for each core, four at most: real processes of more would starve each other.
PARALLEL := --numprocesses=auto --maxprocesses=4 --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: help setup fmt check test test-system test-all mutants simulate crash-points chaos chaos-short chaos-long chaos-mutants failover demo sandbox run proofs model bench bench-grants soak docs picture-status picture-dashboard lock compose-keys clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make setup PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --no-deps -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

setup: $(STAMP) ## make .venv from the lock file (PYTHON=python3.12 takes another interpreter)

fmt: $(STAMP) ## format, and mend what ruff can mend
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --fix --quiet .

check: $(STAMP) ## lint, types, layers, spelling, files for machines; changes nothing
	$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	$(BIN)/mypy --no-error-summary && $(BIN)/pyright && $(BIN)/lint-imports
	$(BIN)/yamllint --strict . && $(BIN)/codespell && $(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

test: $(STAMP) ## every test that needs no program of the system
	$(BIN)/python -m pytest $(PARALLEL) -m "not system" $(ARGS)

test-system: $(STAMP) ## tests that drive programs of the system
	@.ci/needs promtool prometheus ip spin gcc chromium systemd-analyze
	$(BIN)/python -m pytest -m system $(ARGS)

test-all: test test-system ## both

mutants: $(STAMP) ## put each failure of the failure model back, and expect its test to fail
	$(BIN)/python -m tests.mutants.run $(ARGS)

simulate: $(STAMP) ## thousands of random stories of a fleet, in virtual time (ARGS=--help)
	$(BIN)/python -m tests.simulation.run $(ARGS)

crash-points: $(STAMP) ## hit a claim at each of its steps in each way, with the store well, away and rolled back
	$(BIN)/python -m tests.crash_points.run

chaos: $(STAMP) ## kill, stop and cut off real sidecars for three minutes, and account for every token
	$(BIN)/python -m tests.chaos.run $(ARGS)

chaos-short: $(STAMP) ## the same in one minute and small, as CI does it
	$(BIN)/python -m tests.chaos.run --form short $(ARGS)

chaos-long: $(STAMP) ## the same with 10,000 users and 100,000 claims in each of three modes
	$(BIN)/python -m tests.chaos.run --form long $(ARGS)

chaos-mutants: $(STAMP) ## the same for what others do; each must lose tokens or spend one twice
	$(BIN)/python -m tests.chaos.run_mutants $(ARGS)

failover: $(STAMP) ## twenty failovers of Sentinel and of Cluster under load: what was forgotten, and healed
	$(BIN)/python -m tests.chaos.run_failover $(ARGS)

demo: $(STAMP) ## a store, the sandbox and the sidecar on this machine, and a token's life to watch
	$(BIN)/python -m sidecar demo $(ARGS)

sandbox: $(STAMP) ## the local Akoya alone (ARGS=--help lists what it can do)
	$(BIN)/python -m sidecar sandbox $(ARGS)

run: $(STAMP) ## serve with the environment, and with sidecar.env if that file is here
	set -a; if [ -f sidecar.env ]; then . ./sidecar.env; fi; exec $(BIN)/python -m sidecar run

proofs: $(STAMP) ## the long forms of the test plan (ARGS="t5 t6" runs some), printed beside their goals
	$(BIN)/python -m tests.proofs $(ARGS)

bench: $(STAMP) ## measure what the sidecar costs
	$(BIN)/python -m tests.benchmarks.run $(ARGS)

model: $(STAMP) ## check the protocol's model: every order of steps, beside what is expected
	@.ci/needs spin gcc
	$(BIN)/python -m tests.model.check $(ARGS)

bench-grants: $(STAMP) ## measure what a due grant costs and a grant weighs, up to a million of them
	$(BIN)/python -m tests.benchmarks.grants $(ARGS)

soak: $(STAMP) ## an hour of normal load under the real alerts (ARGS="--minutes 5", "--rotation")
	@.ci/needs prometheus
	$(BIN)/python -m tests.operations.soak $(ARGS)

picture-status: $(STAMP) ## take the picture of the status page that the documents show
	@.ci/needs chromium
	$(BIN)/python -m tests.pictures.status_page

picture-dashboard: $(STAMP) ## take the picture of the dashboard: a quarter of an hour of a fleet whose bank fails
	@.ci/needs chromium prometheus npm
	$(BIN)/python -m tests.pictures.dashboard $(ARGS)

docs: $(STAMP) ## write anew what is made from the code: the reference pages, the dashboard, the rules for Kubernetes
	for page in configuration metrics log-events errors; do $(BIN)/python -m sidecar reference $$page > docs/reference/$$page.md || exit 1; done
	$(BIN)/python -m sidecar reference env-example > config/sidecar.env.example
	$(BIN)/python -m sidecar reference openapi > docs/reference/openapi.json
	$(BIN)/python -m sidecar reference dashboard > config/grafana/dashboards/akoya-sidecar.json
	sh config/kubernetes/make-rules.sh > config/kubernetes/base/prometheusrule.yaml

lock: $(STAMP) ## resolve the dependencies anew
	$(BIN)/uv pip compile $(PINNED) --all-extras --group dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile $(PINNED) --extra speed -c requirements.lock pyproject.toml -o requirements.runtime.lock
	$(BIN)/uv pip compile $(PINNED) --extra speed --extra otel -c requirements.lock pyproject.toml -o requirements.traced.lock
	$(BIN)/uv pip compile $(PINNED) --group build -c requirements.lock -o requirements.build.lock

compose-keys: $(STAMP) ## fresh keys for docker-compose.yml, in secrets/
	sh config/compose/make-keys.sh $(BIN)/python -m sidecar keygen

clean: ## remove what the verbs made, but no keys
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
