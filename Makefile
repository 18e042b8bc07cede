# Short names for the commands of CONTRIBUTING.md. `make ci` is what CI runs; .ci/run uses the targets below it.
SITE = site
FOLDERS = tests

.PHONY: install format lint fast slow test coverage tables docs ci

install:  # into the environment that is active
	pip install -q -c constraints.txt -e '.[test,docs]'

format:
	ruff format .
	ruff check --fix .

lint:
	ruff check .
	ruff format --check .
	mypy recbole_dgrm

fast:
	python -m pytest -m "not slow" $(FOLDERS)

test:
	python -m pytest

coverage:  # of the tests that are not slow; fails below the floor in pyproject.toml
	python -m pytest -m "not slow" --cov

slow:
	python -m pytest -m slow

tables:  # of README.md and docs/worth.md, from the reports in docs/results
	python docs/tables.py

docs:  # not --quiet, which hides warnings from --strict too
	python docs/notebook.py
	mkdocs build --strict --site-dir $(SITE)

ci:
	.ci/run
