.PHONY: help venv test torture coverage lint format types layers bench docs ci
help:      ## show this list
	@sed -n 's/^\([a-z]*\): *## /\1\t/p' Makefile | expand -t 12
venv:      ## make .venv with everything, at the versions that CI uses
	python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e ".[dev]"
test:      ## run the whole suite
	pytest
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
