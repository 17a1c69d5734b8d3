.PHONY: help venv test simulate check-deep nightly torture coverage lint bench docs ci
SEED ?= 1
SEEDS ?= 100
FUZZ_SECONDS ?= 360
WHAT ?= bench
# Why no limit: a deep test takes as long as it takes. What it counts goes into a file.
LONG = AUMAI_FIGURES=.cache/figures.jsonl pytest -n2 -o faulthandler_timeout=0
SHORTER = AUMAI_CHAOS_SECONDS=120 AUMAI_CHAOS_TRANSACTIONS=100 AUMAI_HTTP_KILLS=100 AUMAI_RECOVERY_KILLS=100
help:      ## show this list
	@sed -n 's/^\([a-z-]*\): *## /\1\t/p' Makefile | expand -t 12
venv:      ## make .venv with everything, at the versions that CI uses
	python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[dev]"
test:      ## run the whole suite
	pytest
simulate:  ## simulate SEEDS histories, from SEED on
	python -m aumai_transactions.testing.simulator --seed $(SEED) --seeds $(SEEDS) --counts
check-deep: ## try every system call, crash image, flipped bit and mutant, for about an hour
	$(SHORTER) $(LONG) -m deep
nightly:   ## the same in full length, the long kills, a million simulated transactions, the fuzzers
	$(LONG) -m "deep or torture" && python -m aumai_transactions.testing.simulator --seed 1000000 --seeds 50000 && python tests/fuzz/fuzz.py all --seconds $(FUZZ_SECONDS)
torture:   ## kill 1,000 times (or AUMAI_TORTURE_KILLS) and recover, and count the windows hit
	pytest -n0 -m torture -o faulthandler_timeout=0
coverage:  ## run the suite and report what it did not reach
	coverage erase && coverage run -m pytest && coverage combine -q && coverage report
lint:      ## check style, formatting, types, and that imports point downwards
	ruff check && ruff format --check && mypy && lint-imports
bench:     ## measure beside the least that is possible; WHAT=check compares with what was recorded
	python benchmarks/$(WHAT).py $(ARGS)
docs:      ## build the documentation (pip install zensical first)
	zensical build --strict --clean
ci:        ## do what CI does, in fresh virtual environments
	.ci/run
