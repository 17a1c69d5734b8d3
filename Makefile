.PHONY: help venv test check-deep nightly torture simulate mutants fuzz figures coverage lint format types layers bench docs ci
SEED ?= 1
SEEDS ?= 100
FUZZ_SECONDS ?= 360
FIGURES ?= .cache/figures.jsonl
# Why no limit: a deep test takes as long as it takes.
LONG = AUMAI_FIGURES=$(FIGURES) pytest -n2 -o faulthandler_timeout=0
help:      ## show this list
	@sed -n 's/^\([a-z-]*\):[a-z ]*## /\1\t/p' Makefile | expand -t 12
venv:      ## make .venv with everything, at the versions that CI uses
	python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[dev]"
test:      ## run the whole suite
	pytest
check-deep: ## every system call, crash image, flipped bit and mutant, for about an hour
	AUMAI_CHAOS_SECONDS=120 AUMAI_CHAOS_TRANSACTIONS=100 AUMAI_HTTP_KILLS=100 AUMAI_RECOVERY_KILLS=100 $(LONG) -m deep
nightly: fuzz ## the same in full length, the long kills, and a million simulated transactions
	$(LONG) -m "deep or torture" && HYPOTHESIS_PROFILE=nightly pytest -n2 tests/property && python -m aumai_transactions.testing.simulator --seed 1000000 --seeds 50000
simulate:  ## simulate SEEDS histories, from SEED on
	python -m aumai_transactions.testing.simulator --seed $(SEED) --seeds $(SEEDS) --counts
mutants:   ## plant bugs in the product, and print which seed finds each
	python -m tests.simulation.mutants
fuzz:      ## draw inputs for plan loader, journal reader and codec (pip install atheris for coverage)
	for target in plan_toml plan_json journal codec values; do python tests/fuzz/fuzz.py $$target --seconds $(FUZZ_SECONDS) || exit 1; done
figures:   ## put the figures of the last long run into docs/reliability.md
	python -m tests.reliability.page $(FIGURES)
torture:   ## kill 1,000 times (or AUMAI_TORTURE_KILLS) and recover, and count the windows hit
	pytest -n0 -m torture -o faulthandler_timeout=0
coverage:  ## run the suite and report what it did not reach
	coverage erase && coverage run -m pytest && coverage combine -q && coverage report
lint:      ## check style and formatting
	ruff check && ruff format --check
format:    ## repair what can be repaired
	ruff check --fix && ruff format
types:     ## check types
	mypy
layers:    ## check that imports point downwards
	lint-imports
bench:     ## measure, as ratios to a bare loop and to bare commits
	python benchmarks/overhead.py
docs:      ## build the documentation (pip install zensical first)
	zensical build --strict --clean
ci:        ## do what CI does, in fresh virtual environments
	.ci/run
