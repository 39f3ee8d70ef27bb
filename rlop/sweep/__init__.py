"""Sweeps: many configurations, in few processes."""
