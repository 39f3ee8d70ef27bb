"""The subjects of `scripts/benchmark.py`, one per file."""
