# Every target does all set-up itself, in .venv (bench in .venv-bench). PYTHON picks the interpreter (3.10 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?=
BENCH ?= all
JOBS ?= 2
PEERS := d3rlpy tianshou torchrl stable-baselines3

.PHONY: demo test lint bench clean

demo: $(VENV)/ready
	$(BIN)/python scripts/gridworld.py $(DEMO)

test: $(VENV)/ready
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# BENCH="update --cases cql" measures a part; see scripts/benchmark.py.
bench: .venv-bench/ready
	.venv-bench/bin/python scripts/benchmark.py $(BENCH)

# One environment for both, so that the second target starts at once.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,report,collect,classic,minatar,atari,supervised]"
	touch $@

# The peers pin packages that ours leave free, and the other way round: an environment of their own. MinAtar and MuJoCo
# are for the cost of evaluation.
.venv-bench/ready: pyproject.toml constraints-bench.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --constraint constraints-bench.txt torch
	.venv-bench/bin/python -m pip install --quiet --constraint constraints-bench.txt \
		--editable ".[minatar]" "gymnasium[mujoco]" $(PEERS)
	touch $@

clean:
	rm -rf $(VENV) .venv-bench build *.egg-info .pytest_cache .mypy_cache .ruff_cache
