"""The updates in JAX, in a process of its own that imports nothing of ours."""
