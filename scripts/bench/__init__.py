"""What `scripts/benchmark.py` measures, one subject per file."""
