# Brookbox.  `make run` and `make test` install what is missing on Debian and Ubuntu.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help run demo test test-long lint bench wheel bundle sbom clean

help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run:  ## Install what is missing, then run the node in the foreground (Ctrl-C stops it)
	@packaging/setup.sh run
	@exec packaging/run.sh

demo:  ## In a second terminal: send a phantom study and see its result come back
	@$(BIN)/python -m appliance.cli demo

test:  ## Install what is missing, then check and test everything
	@packaging/setup.sh test
	@packaging/test.sh

test-long:  ## The tests that take long, too
	@packaging/setup.sh test
	@packaging/test.sh --long

lint:  ## ruff and mypy alone
	@packaging/setup.sh lint
	@$(BIN)/ruff check appliance web tests streams benchmarks && $(BIN)/mypy

bench:  ## Timings against the peers, as ratios of interleaved runs
	@packaging/setup.sh test
	@$(BIN)/python -m benchmarks --into benchmarks/README.md

wheel:  ## Build the wheel into dist/
	@packaging/setup.sh lint
	@$(BIN)/python -m build --wheel --outdir dist .

bundle:  ## One tar for a machine without network: packages, wheels, images, installer
	@packaging/setup.sh run
	@packaging/bundle/make.sh

sbom:  ## Write the bill of materials (CycloneDX) to dist/brookbox.cdx.json
	@packaging/setup.sh run
	@$(BIN)/python packaging/sbom.py dist/brookbox.cdx.json

clean:  ## Remove what make made, but never data/
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache
