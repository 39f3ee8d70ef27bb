"""What only a GPU can show: `scripts/benchmark.py gpu`."""
