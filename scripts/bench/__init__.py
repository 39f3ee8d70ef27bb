"""The subjects of `scripts/benchmark.py`, one a file."""
