# Every target does all set-up itself, in .venv (bench, docs and test-lower in .venv-bench, .venv-docs
# and .venv-lower).
# PYTHON picks the interpreter, 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?=
CHAOS ?=
BENCH ?= all
JOBS ?= 2
PEERS := d3rlpy tianshou torchrl stable-baselines3 jax flax optax chex
EXTRAS := report,collect,classic,minatar,atari,supervised,bands

# Else every process of a test compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test generated test-lower chaos lint dist docs bench clean

demo: $(VENV)/ready
	$(BIN)/python scripts/gridworld.py $(DEMO)

test: $(VENV)/ready
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# Two files that follow from the code: the schema that editors read, and the list of public names.
generated: $(VENV)/ready
	$(BIN)/rlop train --schema > .schema.json && mv .schema.json configs/schema.json
	$(BIN)/python tests/test_package.py > .names.txt && mv .names.txt tests/public_names.txt

# The same tests with the oldest versions that pyproject.toml allows.
test-lower: .venv-lower/ready
	.venv-lower/bin/python -m pytest -n $(JOBS) --dist worksteal

# Trainings ended at random moments and resumed, for a minute; see scripts/chaos.py for more.
chaos: $(VENV)/ready
	$(BIN)/python scripts/chaos.py $(CHAOS)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Source archive, and a wheel built from it, in dist/.
dist: $(VENV)/ready
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*

# The site, in docs/_build/html; a warning is an error.
docs: .venv-docs/ready
	.venv-docs/bin/python -m sphinx -q -W --keep-going docs docs/_build/html

# BENCH="update --cases cql" measures a part; see scripts/benchmark.py.
bench: .venv-bench/ready
	.venv-bench/bin/python scripts/benchmark.py $(BENCH)

# One environment for all but bench, docs and test-lower, so that the second target starts at once.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,$(EXTRAS)]"
	touch $@

.venv-lower/ready: pyproject.toml constraints-lower.txt
	$(PYTHON) -m venv .venv-lower
	.venv-lower/bin/python -m pip install --quiet --constraint constraints-lower.txt torch
	.venv-lower/bin/python -m pip install --quiet --constraint constraints-lower.txt \
		--editable ".[test,$(EXTRAS)]"
	touch $@

# Sphinx and Jupyter bring some sixty packages that nothing else needs: an environment of their own.
.venv-docs/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --constraint constraints.txt torch
	.venv-docs/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

# The peers pin packages that ours leave free, and the other way round: an environment for them
# alone. MinAtar and MuJoCo are for the cost of evaluation.
.venv-bench/ready: pyproject.toml constraints-bench.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --constraint constraints-bench.txt torch
	.venv-bench/bin/python -m pip install --quiet --constraint constraints-bench.txt \
		--editable ".[minatar]" "gymnasium[mujoco]" $(PEERS)
	touch $@

clean:
	rm -rf $(VENV) .venv-bench .venv-docs .venv-lower build dist *.egg-info
	rm -rf docs/_build docs/_generated
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis
