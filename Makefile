.PHONY: help venv test simulate check-deep nightly coverage lint bench bench-check integrations ci
SEED ?= 1
SEEDS ?= 100
FUZZ_SECONDS ?= 240
# How much of what is exhaustive or long check-deep does (tests/reliability/share.py). Why a seventh:
# what repeats itself, such as the bytes of a page, repeats itself in other steps.
SHARE ?= 1/7
WHAT ?= bench
# Why no limit: a deep test takes as long as it takes. What it counts goes into a file.
LONG = AUMAI_FIGURES=.cache/figures.jsonl pytest -n2 -o faulthandler_timeout=0
help:      ## show this list
	@sed -n 's/^\([a-z-]*\): *## /\1\t/p' Makefile | expand -t 12
venv:      ## make .venv with everything, at the versions that CI uses
	python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[dev]"
test:      ## run the whole suite
	pytest
simulate:  ## simulate SEEDS histories, from SEED on
	python -m aumai_transactions.testing.simulator --seed $(SEED) --seeds $(SEEDS) --counts
check-deep: ## try a share of every system call, crash image, flipped bit and mutant; 20 minutes
	AUMAI_SHARE=$(SHARE) $(LONG) -m deep
nightly:   ## try all of it, a million simulated transactions, the long kills and the fuzzers; 2 hours
	$(LONG) -m "deep or torture" && python tests/fuzz/fuzz.py all --seconds $(FUZZ_SECONDS)
coverage:  ## run the suite and report what it did not reach
	coverage erase && coverage run -m pytest && coverage combine -q && coverage report
lint:      ## check style, formatting, types, and that imports point downwards
	ruff check && ruff format --check && mypy && lint-imports
bench:     ## measure beside the least that is possible; WHAT=growth, fleet, deadlock, history
	python benchmarks/$(WHAT).py $(ARGS)
bench-check: ## compare the instructions of five paths with what was recorded; ARGS=--record
	python benchmarks/check.py $(ARGS)
integrations: ## test each adapter with its real framework, lowest and newest; ARGS="langchain mcp"
	python tests/frameworks/run.py $(ARGS)
ci:        ## do what CI does, in fresh virtual environments
	.ci/run
