# Every target makes its own environment in .venv; a second call installs nothing.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help train test test-process test-soak test-slurm check format bench clean

help:  ## show this page
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

train: $(READY)  ## install, prepare the embedded demo corpus and train a voice on it (about 15 minutes on 2 cores)
	$(PY) train.py recipe=demo run.name=demo

test: $(READY)  ## run the unit tests
	$(PY) -m pytest -q -n 2 --dist worksteal -m "not process and not soak and not slurm" -p tests.summary

test-process: $(READY)  ## run the long tests, which start and kill real processes (minutes)
	$(PY) -m pytest -q -m process -p tests.summary

test-soak: $(READY)  ## repeat for hours at most what shows only then (HMMTTS_SOAK=0.1: a tenth of it)
	HMMTTS_SOAK=$${HMMTTS_SOAK:-1} $(PY) -m pytest -q -s -m "soak or hypothesis" -p tests.summary

test-slurm: $(READY)  ## train on a real SLURM of two nodes (minutes); needs slurm-wlm: scripts/slurm_here.py install
	$(PY) scripts/install.py slurm
	$(PY) -m pytest -q -s -m slurm tests/slurm -p tests.summary

check: $(READY)  ## formatting, lint, types and the layer rules
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(PY) -m pytest -q tests/test_layers.py

format: $(READY)  ## format the code and mend what ruff can mend
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(READY)  ## time the HMM kernels against other libraries
	$(PY) scripts/install.py bench
	$(VENV)/bin/hmmtts bench hmm --json bench_hmm.json

clean:  ## remove the environment
	rm -rf $(VENV)

$(READY): pyproject.toml scripts/install.py
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) scripts/install.py dev
	$(VENV)/bin/hmmtts doctor --warm
	touch $(READY)
